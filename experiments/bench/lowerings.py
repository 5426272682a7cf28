"""The ways to lower a convolution beside each other, forward and both derivatives: why `convolve` chooses as it does.

Command:
    python -m experiments.bench.lowerings [--out runs/bench-lowerings] [--repeats 5]

Time: two minutes of one CPU core.

Expect (table in docs/results): XLA's own, under the compiler's options of `ugejax.compiler`, is the fastest or near
it but for maps that are smaller than the kernel, kernels of one pixel and depthwise ones.

Every row is a shape from `cnn`, `r18` or `mv2`; its cells are GFLOP/s of the processor's time, each way's median over
rounds in which all take their turn. "as XLA likes" has none of the compiler's options.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments.tables import table_head, table_row
from ugejax.app.allocator import keep_freed_memory
from ugejax.compiler import compiler_options
from ugejax.networks.convolution import convolve_by_matmul, convolve_by_shifts, convolve_by_xla


@dataclass(frozen=True)
class Shape:
    """A convolution: batch, side of the square maps, channels in and out, kernel, stride, whether it is depthwise."""

    batch: int
    side: int
    channels: int
    features: int
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False

    @property
    def title(self) -> str:
        """The shape in a few words."""
        kind = " depthwise" if self.depthwise else f"-{self.features}"
        maps = f"{self.batch} of {self.side}x{self.side}, {self.channels}{kind}"
        return f"{maps}, {self.kernel}x{self.kernel} by {self.stride}"


SHAPES = [
    Shape(128, 32, 3, 32, stride=2), Shape(128, 16, 32, 64, stride=2), Shape(128, 8, 64, 64), Shape(512, 8, 64, 64),
    Shape(128, 8, 64, 128, stride=2), Shape(128, 4, 128, 128), Shape(64, 4, 64, 128, stride=2), Shape(64, 2, 128, 128),
    Shape(32, 32, 64, 64), Shape(32, 16, 128, 128), Shape(32, 8, 256, 256), Shape(32, 4, 512, 512),
    Shape(32, 32, 64, 128, kernel=1, stride=2), Shape(32, 16, 144, 144, stride=2, depthwise=True),
    Shape(32, 8, 384, 384, depthwise=True),
]  # fmt: skip


def rates(shape: Shape, repeats: int) -> dict[str, dict[str, float]]:
    """GFLOP/s of the forward pass and of the derivatives by maps and by kernel, for every way to lower the shape."""
    inner = 1 if shape.depthwise else shape.channels
    out = -(-shape.side // shape.stride)
    flops = 2 * shape.kernel**2 * shape.batch * out**2 * inner * shape.features
    x_key, kernel_key, y_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (shape.batch, shape.side, shape.side, shape.channels))
    kernel = jax.random.normal(kernel_key, (shape.kernel, shape.kernel, inner, shape.features))
    y = jax.random.normal(y_key, (shape.batch, out, out, shape.features))
    by_products = convolve_by_shifts if shape.depthwise else convolve_by_matmul
    ways = {
        "XLA's own": (convolve_by_xla, compiler_options()),
        "as XLA likes": (convolve_by_xla, {}),
        by_products.__name__: (by_products, compiler_options()),
    }
    programs = {}
    for way, (lowering, options) in ways.items():
        passes = {
            "forward": lambda x, kernel, y, f=lowering: f(x, kernel, shape.stride),
            "by maps": lambda x, kernel, y, f=lowering: jax.vjp(lambda x: f(x, kernel, shape.stride), x)[1](y),
            "by kernel": lambda x, kernel, y, f=lowering: jax.vjp(lambda k: f(x, k, shape.stride), kernel)[1](y),
        }
        for name, function in passes.items():
            programs[way, name] = jax.jit(function, compiler_options=options).lower(x, kernel, y).compile()
    seconds: dict[tuple[str, str], list[float]] = {which: [] for which in programs}
    for _ in range(repeats + 1):
        for which, program in programs.items():
            began = time.process_time()
            jax.block_until_ready(program(x, kernel, y))
            seconds[which].append(time.process_time() - began)
    found: dict[str, dict[str, float]] = {way: {} for way in ways}
    for (way, name), taken in seconds.items():
        found[way][name] = flops / float(np.median(taken[1:])) / 1e9  # the first call is a warm-up
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-lowerings"), help="folder for results.json")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(table_head("maps and kernel", "way", "forward", "by maps", "by kernel"))
    for shape in SHAPES:
        for way, found in rates(shape, arguments.repeats).items():
            rows.append({"shape": shape.title, "way": way, **found})
            print(table_row(shape.title, way, *(f"{rate:.3g}" for rate in found.values())), flush=True)
        (arguments.out / "results.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
