"""An archive with uint8 `data` and `targets`: AVATAR."""

from pathlib import Path

import numpy as np

from ugejax.app.exchange.arrays import read_npz
from ugejax.app.exchange.files import sha256
from ugejax.app.exchange.form import Exported, Form, Imported, images_of_train, most_values
from ugejax.app.files import synced
from ugejax.data import Splits
from ugejax.errors import UserError


def _read(place: str, splits: Splits) -> Imported:
    path = Path(place)
    arrays = read_npz(path, ("data", "targets"), most=most_values(splits))
    if "data" not in arrays:
        raise UserError(f"{path}: no array 'data'; save it with np.savez(path, data=images, targets=labels)")
    return Imported(images_of_train(arrays["data"], splits, place), arrays.get("targets"), {path.name: sha256(path)})


def _write(path: Path, exported: Exported) -> None:
    with synced(path) as file:
        # int64 is what PyTorch's losses want.
        np.savez(file, data=exported.images, targets=exported.labels.astype(np.int64))


NPZ = Form(_read, _write, "archive with uint8 `data` and `targets`: AVATAR")
