"""What it would take to protect a set that is larger than this machine: bytes, arithmetic and hours, by calculation.

Command:
    python -m experiments.growth --out runs/growth-224 --sizes 200,1000,3000 --side 224
    python -m experiments.plan --growth runs/growth-224/results.json [--images 1281167,1000000000] [--network r18]

Time: a minute and a half on two CPU cores, which compile the steps and run none of them.

Expect (table in docs/results): the default form is a matter of reading and writing; a form that is optimised takes a
training of the network and fifteen passes of updates, each with the arithmetic of a training's epoch.

Arithmetic is XLA's count of the compiled program, which counts the body of a loop once; hours of processors are those
of `experiments.growth` for each further image, hours of an accelerator are the arithmetic over --flops.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.tables import table_head, table_row
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.networks import build
from ugejax.training import Batch, default_recipe, initial_state, make_train_step
from ugejax.uge import Method, NoiseState, make_update
from ugejax.views import IdentityView

BATCH = 8  # of the counted programs; arithmetic is in proportion
SURROGATE, EPOCHS = "res-tiny", 15
LABEL_BYTES, HELD_BYTES = 4, 36  # of an image: in data.npz; label and figures in the memory of every process


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array that is not there."""
    return jax.ShapeDtypeStruct(sizes, dtype)


def flops_an_image(function: Any, *arguments: Any) -> float:
    """Floating-point operations of a compiled step, for each image of its batch."""
    cost = jax.jit(function).lower(*arguments).compile().cost_analysis()
    assert cost is not None, "this backend counts nothing"
    return cost["flops"] / BATCH


def counted(network: str, side: int, classes: int) -> dict[str, float]:
    """Arithmetic of an image in a training step of the network and in an update of `frozen-backbone`."""
    module, recipe, key = build(network, classes), default_recipe(network), jax.random.key(0)
    blank = jnp.zeros((1, side, side, 3))
    variables = jax.eval_shape(lambda: module.init(key, blank))
    batch = Batch(shape(BATCH, side, side, 3, dtype=jnp.uint8), *[shape(BATCH, dtype=jnp.int32)] * 2)
    optimizer = recipe.build_optimizer(BATCH)
    step = make_train_step(module, optimizer, recipe)
    state = jax.eval_shape(lambda v: initial_state(v, optimizer), variables)

    surrogate, adam, method = build(SURROGATE, classes), optax.adam(1e-3), Method(epochs=EPOCHS, batch_size=BATCH)
    noise = jax.eval_shape(
        lambda: NoiseState(
            jnp.zeros((), jnp.int32), jnp.zeros((classes, side, side, 3)),
            (initial_state(surrogate.init(key, blank), adam),),
        )
    )  # fmt: skip
    trajectory = jax.tree.map(lambda leaf: shape(method.snapshots, *leaf.shape, dtype=leaf.dtype), variables)
    authorized = AuthorizedNetwork(IdentityView(), module, variables, "head")
    update = make_update(method, authorized, trajectory, [surrogate], [adam], jnp.zeros(classes, jnp.int32))
    return {
        "training": flops_an_image(step, state, batch, key),
        "update": flops_an_image(lambda update, *rest: update(*rest), update, noise, batch, key),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", type=Path, required=True, help="results.json of experiments.growth")
    parser.add_argument("--images", default="1281167,1000000000", help="comma-separated (default %(default)s)")
    parser.add_argument("--side", type=int, default=224, help="of the images in pixels (default %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="(default %(default)s)")
    parser.add_argument("--network", default="r18", help="of the authorized side (default %(default)s)")
    parser.add_argument(
        "--flops", type=float, default=1e14, help="operations a second of one device (default %(default)g)"
    )
    arguments = parser.parse_args()
    milliseconds = json.loads(arguments.growth.read_text())["rows"][-1]["cpu_ms_per_further_image"]
    flops = counted(arguments.network, arguments.side, arguments.classes)
    pixels, epochs = 3 * arguments.side**2, default_recipe(arguments.network).epochs
    sizes = ("images", "release", "noise a class", "noise an image, one epoch", "memory of a process")
    print(table_head(*sizes, "default form", "trajectory", "perturbation"))
    for n in map(int, arguments.images.split(",")):
        hours = {name: n * count / arguments.flops / 3600 for name, count in flops.items()}
        cells = [
            f"{n:,}", f"{n * (pixels + LABEL_BYTES) / 1e9:,.1f} GB", f"{4 * pixels * arguments.classes / 1e9:.2f} GB",
            f"{4 * pixels * n / 1e9:,.0f} GB", f"{HELD_BYTES * n / 1e9:,.3f} GB",
            f"{n * milliseconds / 3.6e6:,.1f} core hours", f"{epochs * hours['training']:,.1f} device hours",
            f"{EPOCHS * hours['update']:,.1f} device hours",
        ]  # fmt: skip
        print(table_row(*cells))
    print(f"{arguments.network} at {arguments.side} pixels, by XLA's count: " + ", ".join(
        f"{count / 1e9:.1f} GFLOP an image of a step of the {name}" for name, count in flops.items()
    ))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
