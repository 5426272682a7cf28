"""What do the compiled steps ask of the host? Compilations, transfers and donated bytes, counted.

Command:
    python -m experiments.counts [--out runs/counts]

Time: minutes, nearly all of it compilation.

Expect (rows in experiments/results/counts.json, in words in docs/accelerator.md): in every row one compilation for each
number of images and none in a later epoch, no transfer in a step, and as many bytes donated as the state has.

Each step takes epochs of 4 batches, all images of which lie on the device: as a loop over the compiled step, as on a
processor, and as one program, as on an accelerator. Weights are zeros, which changes no count.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from experiments.memory import Row, step_and_state
from experiments.tables import table_head, table_row
from ugejax.compiler import traced_for
from ugejax.training.loop import run_steps

ROWS = (Row("training", "cnn", 32, 64, 16), Row("update", "cnn", 32, 64, 16))
WAYS = {"a loop over the step": "cpu", "one program": "accelerator"}
# What `run_steps` compiles for an epoch, the one way and the other.
PROGRAMS = ("jit(one_step)", "jit(scan)")
# Primitives by which a program asks the host for something, or tells it something.
MOVES = ("device_put", "infeed", "outfeed", "io_callback", "pure_callback", "debug_callback")

COLUMNS = (
    "step", "network", "side", "images", "batch", "epoch", "compiled in the first epoch", "later",
    "for another number of images", "transfers in a step", "bytes of the state", "donated",
)  # fmt: skip


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of what is compiled in this context, as it happens."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def moves(jaxpr: Jaxpr) -> int:
    """How many of a program's equations, and of those within them, are of `MOVES`."""
    found = 0
    for equation in jaxpr.eqns:
        found += equation.primitive.name in MOVES
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, Jaxpr | ClosedJaxpr)):
            if isinstance(inner, Jaxpr | ClosedJaxpr):
                found += moves(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
    return found


def counted(row: Row, platform: str) -> dict[str, Any]:
    """The counts of a row, its programs written as for a platform.

    Raises:
        jax.errors.JaxRuntimeError: something is moved after the first epoch.
    """
    with traced_for(platform):
        shapes = step_and_state(row)
        step, state, (images, labels, order) = jax.tree.map(_zeros, shapes)
        order, key, run = jnp.arange(row.images), jax.random.key(0), run_steps(step)

        def epoch(state: Any, number: int) -> Any:
            return run(state, images[:number], labels[:number], order[:number], key, number // row.batch)[0]

        given = [(leaf, leaf.nbytes) for leaf in jax.tree.leaves(state)]
        with compilations() as first:
            state = epoch(state, row.images)
        donated = sum(size for leaf, size in given if leaf.is_deleted())
        with compilations() as later, jax.transfer_guard("disallow"):
            state = epoch(epoch(state, row.images), row.images)
        with compilations() as other:
            epoch(state, row.images // 2)
        program = jax.make_jaxpr(lambda step, *arguments: step(*arguments))(*shapes[:2], *shapes[2], key)
    return {
        "compiled": sum(name in PROGRAMS for name in first), "compiled_later": len(later),
        "compiled_for_others": sum(name in PROGRAMS for name in other), "transfers": moves(program.jaxpr),
        "state": sum(size for _, size in given), "donated": donated,
    }  # fmt: skip


def _zeros(leaf: Any) -> jax.Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/counts"), help="folder for results.json")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print(table_head(*COLUMNS))
    for row in ROWS:
        for way, platform in WAYS.items():
            rows.append({**asdict(row), "epoch": way, **counted(row, platform)})
            print(table_row(*rows[-1].values()), flush=True)
            (arguments.out / "results.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
