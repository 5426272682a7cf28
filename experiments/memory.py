"""Peak memory of `ugejax protect` on image folders of different sizes: constant in the number of images.

Command:
    python -m experiments.memory --out runs/memory [--sizes 5000,50000]

Time: some minutes on two CPU cores: the folders are made of random 32x32 images, then each is protected.

Expect (figures in BUILD_NOTES.md): the largest peak is less than a tenth above the smallest. results.json holds peak
resident memory and seconds of each size.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10


def make_folder(root: Path, n: int) -> None:
    """Random images in ten classes."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / str(label)).mkdir(parents=True)
    for index in range(n):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / str(index % CLASSES) / f"{index:06d}.png", compress_level=0)


def protect(source: Path, out: Path) -> dict[str, float]:
    """Protect in a process of its own, whose peak memory the system knows."""
    command = [sys.executable, "-m", "ugejax", "protect", str(source), "--seed", "0"]
    command += ["--out", str(out / "release"), "--key", str(out / "key")]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss in bytes
    return {"peak_rss_mib": usage.ru_maxrss * unit / 2**20, "seconds": time.perf_counter() - began}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--sizes", default="5000,50000", help="comma-separated numbers of images")
    arguments = parser.parse_args()
    rows = []
    for n in map(int, arguments.sizes.split(",")):
        folder = arguments.out / str(n)
        make_folder(folder / "source", n)
        rows.append({"images": n, **protect(folder / "source", folder)})
        print("{images} images: peak {peak_rss_mib:.0f} MiB, {seconds:.0f} s".format(**rows[-1]), flush=True)
    peaks = [row["peak_rss_mib"] for row in rows]
    results = {"schema": 1, "rows": rows, "largest_over_smallest": max(peaks) / min(peaks)}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"largest over smallest: {results['largest_over_smallest']:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
