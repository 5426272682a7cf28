"""int8 noise in grey levels, one an image, in a pickled NumPy array: REM (robust-unlearnable-examples)."""

from pathlib import Path

import numpy as np

from ugejax.app.exchange.files import sha256
from ugejax.app.exchange.form import Exported, Form, Imported, most_values, of_train
from ugejax.app.exchange.noise import add_noise, grey_levels
from ugejax.app.exchange.numpy_pickle import read_int8, write_int8
from ugejax.app.files import synced
from ugejax.data import Splits
from ugejax.errors import UserError


def _read(place: str, splits: Splits) -> Imported:
    path = Path(place)
    levels = read_int8(path, most=most_values(splits))
    if levels.ndim != 4:
        raise UserError(f"{path}: an array of {list(levels.shape)}; noise is [N, C, H, W]")
    noise = of_train(levels, splits, place) / np.float32(255)
    return Imported(add_noise(noise, splits, place), None, {path.name: sha256(path)})


def _write(path: Path, exported: Exported) -> None:
    assert exported.originals is not None
    levels = grey_levels(exported.images, exported.originals)
    outside = np.flatnonzero((levels != levels.astype(np.int8)).any(axis=(1, 2, 3)))
    if outside.size:
        raise UserError(
            f"{outside.size} images differ from their originals by more than int8 holds (-128 to 127 grey levels), "
            f"image {outside[0]} the first; export float noise (emn)"
        )
    with synced(path) as file:
        write_int8(file, levels.astype(np.int8))


REM = Form(_read, _write, "pickled NumPy array of int8 noise [N, C, H, W] in grey levels: REM", noise=True)
