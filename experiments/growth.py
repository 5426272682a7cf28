"""How time and memory of `ugejax protect` grow with the number of images: time in proportion, memory little.

Command:
    python -m experiments.growth --out runs/growth [--sizes 1000,10000,50000] [--side 32]

Time: some minutes on two CPU cores: the folders are made of random images, then each is protected twice, the
second time with what the first one compiled.

Expect (figures in docs/results): the largest peak of memory is about a tenth above the smallest, and each image
beyond those of the size before costs the same processor time. results.json holds both and the seconds of each size.

It tests the commands themselves, so it runs them.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.measured import measured

CLASSES = 10


def make_folder(root: Path, n: int, side: int) -> None:
    """Random square images in ten classes."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / str(label)).mkdir(parents=True)
    for index in range(n):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(root / str(index % CLASSES) / f"{index:06d}.png", compress_level=0)


def protect(source: Path, out: Path) -> dict[str, float]:
    """What protecting a folder takes."""
    command = [
        "ugejax",
        "protect",
        str(source),
        "--seed",
        "0",
        "--out",
        str(out / "release"),
        "--key",
        str(out / "key"),
    ]
    return measured(command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--sizes", default="1000,10000,50000", help="comma-separated numbers of images, ascending")
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels (default %(default)s)")
    arguments = parser.parse_args()
    rows = []
    for n in map(int, arguments.sizes.split(",")):
        folder = arguments.out / str(n)
        make_folder(folder / "source", n, arguments.side)
        protect(folder / "source", folder / "compiling")
        rows.append({"images": n, **protect(folder / "source", folder)})
        row = "{images} images: peak {peak_rss_mib:.0f} MiB, {seconds:.0f} s, of the processor {cpu_seconds:.1f} s"
        print(row.format(**rows[-1]), flush=True)
    for less, more in itertools.pairwise(rows):
        more["cpu_ms_per_further_image"] = (
            1000 * (more["cpu_seconds"] - less["cpu_seconds"]) / (more["images"] - less["images"])
        )
        print("{images} images: {cpu_ms_per_further_image:.2f} ms of the processor for each further one".format(**more))
    peaks = [row["peak_rss_mib"] for row in rows]
    results = {"schema": 2, "rows": rows, "largest_over_smallest": max(peaks) / min(peaks)}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"peak memory, largest over smallest: {results['largest_over_smallest']:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
