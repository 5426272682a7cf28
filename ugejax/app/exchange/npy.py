"""Images in one file, labels in another: NTGA, whose images are floats in [0, 1] and whose labels are one-hot."""

from pathlib import Path

import numpy as np

from ugejax.app.exchange.arrays import read_npy
from ugejax.app.exchange.files import sha256
from ugejax.app.exchange.form import Exported, Form, Imported, images_of_train, most_values
from ugejax.app.exchange.labels import read_labels
from ugejax.app.files import synced
from ugejax.data import Splits

_NAMES = ("images.npy", "labels.npy")


def _read(place: str, splits: Splits) -> Imported:
    if Path(place).is_dir():
        paths = [Path(place) / name for name in _NAMES]
    else:
        head, comma, tail = place.partition(".npy,")
        paths = [Path(f"{head}.npy"), Path(tail)] if comma else [Path(place)]
    images = images_of_train(read_npy(paths[0], most=most_values(splits)), splits, str(paths[0]))
    labels = read_labels(paths[1], splits) if len(paths) == 2 else None
    return Imported(images, labels, {path.name: sha256(path) for path in paths})


def _write(path: Path, exported: Exported) -> None:
    path.mkdir()
    one_hot = np.eye(len(exported.class_names), dtype=np.float32)[exported.labels]
    for name, array in zip(_NAMES, (exported.images / np.float32(255), one_hot), strict=True):
        with synced(path / name) as file:
            np.save(file, array, allow_pickle=False)


NPY = Form(_read, _write, "images.npy (float in [0, 1]; uint8 is read too) and labels.npy (one-hot): NTGA")
