"""A small release to write, read and damage."""

from pathlib import Path
from typing import Any

import numpy as np

from ugejax.app.release import verify_release, write_release
from ugejax.data import Dataset

SECRET = bytes(range(100, 132))


def make_originals() -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    return Dataset(images, np.array([0, 1, 2, 0, 1, 2], np.int32), ("cat", "dog, small", "kühe"))


def make_arguments(**changes: Any) -> dict[str, Any]:
    originals = make_originals()
    noise = np.random.default_rng(1).integers(-8, 9, originals.images.shape)
    noise[0, 0, 0] = 8
    images = np.clip(originals.images + noise, 0, 255).astype(np.uint8)
    arguments = {
        "images": images,
        "labels": originals.labels,
        "class_names": originals.class_names,
        "originals": originals.images,
        "card": {"method": "uge", "seed": 0, "eps": 8 / 255, "norm": "linf", "key_fingerprint": "abc123"},
    }
    return {**arguments, **changes}


def make_release(path: Path, **changes: Any) -> Path:
    write_release(path, **make_arguments(**changes))
    return path


def failed(folder: Path, **options: Any) -> set[str]:
    """Names of the checks that fail, by default with the right originals and fingerprint."""
    checks = verify_release(folder, **{"originals": make_originals(), "key_fingerprint": "abc123", **options})
    assert all("\n" not in check.detail for check in checks)
    return {check.name for check in checks if not check.ok}
