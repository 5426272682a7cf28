"""What do the compiled steps take of a device's memory, by the compiler's own analysis? Nothing is run.

Command:
    python -m experiments.memory [--out runs/memory] [--networks r18]

Time: 70 s of two idle CPU cores, all of it compilation.

Expect (table in docs/machines.md, rows in experiments/results/memory.json): `r18` trains by batches of 512 on all of
CIFAR-10, which lies on the device, in 4,210 MiB; by 32 photographs of 224 pixels in 12,319 MiB.

The figures are of XLA's program for the backend at hand: arguments and results, where a donated state counts once, and
what is held between operations. An accelerator's convolutions may ask for more while they run.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tables import table_head, table_row
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.compiler import compiler_options
from ugejax.memory import Estimate, estimate
from ugejax.networks import build, variable_shapes
from ugejax.perturbations.parametrisation import NoiseState
from ugejax.training import default_recipe, initial_state, make_train_step
from ugejax.training.loop import on_resident
from ugejax.uge import Method, make_update
from ugejax.views import IdentityView

CLASSES, SNAPSHOTS = 10, 8


@dataclass(frozen=True)
class Row:
    """A compiled step.

    Attributes:
        step: "training" by the network's recipe, or "update" by gradient matching alone.
        network: short name.
        side: of the images.
        images: how many lie on the device.
        batch: images a step.
    """

    step: str
    network: str
    side: int
    images: int
    batch: int


ROWS = (
    Row("training", "cnn", 32, 50_000, 512),
    Row("training", "r18", 32, 50_000, 128),
    Row("training", "r18", 32, 50_000, 512),
    Row("update", "r18", 32, 50_000, 128),
    Row("training", "cnn", 224, 1_000, 32),
    Row("update", "cnn", 224, 1_000, 32),
    Row("training", "r18", 224, 1_000, 32),
)


def step_and_state(row: Row) -> tuple[Callable[..., Any], Any, tuple[jax.ShapeDtypeStruct, ...]]:
    """The step of a row on resident images, and the shapes of its state and of its images, labels and order."""
    shape = (row.side, row.side, 3)
    module, recipe = build(row.network, CLASSES), default_recipe(row.network)
    optimizer, variables = recipe.build_optimizer(row.images), variable_shapes(row.network, CLASSES, shape)
    if row.step == "training":
        step = make_train_step(module, optimizer, recipe)
        state = jax.eval_shape(lambda variables: initial_state(variables, optimizer), variables)
    else:
        stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((SNAPSHOTS, *leaf.shape), leaf.dtype), variables)
        method = Method(feature_distance=0.0, batch_size=row.batch)
        network = AuthorizedNetwork(IdentityView(), module, variables, "all")
        step = make_update(method, network, stacked, (), (), (jnp.arange(CLASSES) + 1) % CLASSES)
        noise = jax.ShapeDtypeStruct((CLASSES, *shape), jnp.float32)
        state = jax.eval_shape(lambda noise: NoiseState(jnp.zeros((), jnp.int32), noise, ()), noise)
    each = jax.ShapeDtypeStruct((row.images,), jnp.int32)
    return on_resident(step, row.batch), state, (jax.ShapeDtypeStruct((row.images, *shape), jnp.uint8), each, each)


def compiled(row: Row) -> jax.stages.Compiled:
    """The step of a row, compiled from shapes."""
    step, state, data = step_and_state(row)
    program = jax.jit(
        lambda step, *arguments: step(*arguments), donate_argnums=1, compiler_options=compiler_options()
    )  # fmt: skip
    return program.lower(step, state, *data, jax.eval_shape(lambda: jax.random.key(0))).compile()


def line(row: Row, taken: Estimate) -> str:
    """A row of the table, in MiB."""
    sizes = (f"{size / 2**20:,.0f}" for size in (taken.fixed, taken.temporary, taken.total))
    return table_row(row.step, row.network, f"{row.side}x{row.side}", f"{row.images:,}", row.batch, *sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/memory"), help="folder for results.json")
    parser.add_argument("--networks", help="comma-separated; all unless told")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen, rows = arguments.networks and arguments.networks.split(","), []
    print(table_head("step", "network", "images", "of which on the device", "batch", "fixed", "in a step", "MiB"))
    for row in ROWS:
        if chosen and row.network not in chosen:
            continue
        taken = estimate(compiled(row))
        rows.append({**asdict(row), "backend": jax.default_backend(), **asdict(taken), "total": taken.total})
        print(line(row, taken), flush=True)
        (arguments.out / "results.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
