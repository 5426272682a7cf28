"""The ways to write 2x2 max-pooling beside each other: why `max_pool` is a maximum of slices.

Command:
    python -m experiments.bench.pooling [--repeats 5]

Time: a quarter of a minute of one CPU core.

Expect: forward and backward pass together take a windowed maximum 6 to 15 times as long as the maximum of slices, and a
maximum over two axes 1.5 to 4 times as long, most of it for the largest maps.

The maps are those of the network `speedrun` where it pools. Cells are milliseconds of the processor's time, each way's
median over rounds in which all take their turn.
"""

import argparse
import time

import jax
import numpy as np
from flax import linen as nn

from experiments.tables import table_head, table_row
from ugejax.app.allocator import keep_freed_memory
from ugejax.compiler import compiler_options
from ugejax.networks.pooling import max_pool

SHAPES = [(256, 31, 31, 64), (256, 15, 15, 128), (256, 7, 7, 128)]


def windowed(x: jax.Array) -> jax.Array:
    """Flax's."""
    return nn.max_pool(x, (2, 2), (2, 2))


def over_axes(x: jax.Array) -> jax.Array:
    """The maximum over two axes of a reshaped array."""
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


WAYS = {"maximum of slices": max_pool, "windowed maximum": windowed, "maximum over axes": over_axes}


def milliseconds(shape: tuple[int, ...], repeats: int) -> dict[str, tuple[float, float]]:
    """(forward, forward and backward) of every way on random maps of that shape."""
    x = jax.random.normal(jax.random.key(0), shape)
    y = jax.random.normal(jax.random.key(1), max_pool(x).shape)
    programs = {}
    for way, pool in WAYS.items():
        passes = (lambda x, y, pool=pool: pool(x), lambda x, y, pool=pool: jax.vjp(pool, x)[1](y)[0])
        for which, function in enumerate(passes):
            programs[way, which] = jax.jit(function, compiler_options=compiler_options()).lower(x, y).compile()
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in programs}
    for _ in range(repeats + 1):
        for key, program in programs.items():
            began = time.process_time()
            program(x, y).block_until_ready()
            taken[key].append(1000 * (time.process_time() - began))
    middle = {key: float(np.median(values[1:])) for key, values in taken.items()}  # the first call is a warm-up
    return {way: (middle[way, 0], middle[way, 1]) for way in WAYS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    print(table_head("maps", "way", "forward", "both", "both, of the maximum of slices"))
    for shape in SHAPES:
        found = milliseconds(shape, arguments.repeats)
        for way, (forward, both) in found.items():
            share = both / found["maximum of slices"][1]
            figures = (f"{taken:.1f}" for taken in (forward, both, share))
            print(table_row("x".join(map(str, shape)), way, *figures), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
