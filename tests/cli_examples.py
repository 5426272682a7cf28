"""Small sets and commands that the tests of the command line share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

TINY = ["--network", "mlp", "--surrogates", "mlp", "--n-test", "12", "--eps", "32/255", "--epochs", "2"]
PNG = b"\x89PNG\r\n\x1a\n"


def write_toy(path: Path, *, seed: int = 0) -> Path:
    """60 8x8 images of three classes that differ in which third of the rows is bright."""
    labels = np.arange(60) % 3
    images = np.random.default_rng(seed).integers(0, 120, (60, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 130
    np.savez(path, data=images.astype(np.uint8), targets=labels)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Every path below a folder, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def protect(folder: Path, name: str, *more: str) -> list[str]:
    source, out, key = folder / "toy.npz", folder / name, folder / f"key-{name}"
    return ["protect", str(source), "--out", str(out), "--key", str(key), *TINY, *more]


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ugejax", *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "UGEJAX_CACHE": str(cache)},
    )  # fmt: skip


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
