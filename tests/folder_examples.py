"""Folders of images as people have them, made from random pixels."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 of this shape."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_images(root: Path, *paths: str, size: int = 8) -> None:
    """An RGB image of its own at each path; of formats with loss the pixels are near it."""
    for index, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        seed = index + sum(path.encode("utf-8", "surrogateescape")) * 1000
        image = Image.fromarray(pixels(size, size, 3, seed=seed))
        image.save(file, {".jfif": "JPEG", ".jpe": "JPEG"}.get(file.suffix.lower()))


def write_files(root: Path, *paths: str, content: bytes = b"text") -> None:
    """A file that is no image at each path."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
