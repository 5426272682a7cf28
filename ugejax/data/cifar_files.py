"""CIFAR-10 and CIFAR-100 as they are published: pickles of Python 2, which are decoded and never run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.data.account import Account, SplitUse
from ugejax.data.arrays import part_of_arrays
from ugejax.data.part import Opened
from ugejax.errors import UserError
from ugejax.pickled_array import PickledArray, array_names
from ugejax.unpickle import Refused, unpickle

# A batch has three for each of 50,000 images' names and two for its labels.
_MOST_INSTRUCTIONS = 10**6
# Of each set: files of the train images, of the test images, of the class names, and the fields in them.
_SETS = {
    "CIFAR-10": (r"data_batch_\d", "test_batch", "batches.meta", "labels", "label_names"),
    "CIFAR-100": ("train", "test", "meta", "fine_labels", "fine_label_names"),
}


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise Refused("encodes what is no text of bytes")
    return text.encode("latin-1")


_NAMES = {
    **array_names(np.uint8, "holds an array of another type than uint8"),
    "_codecs.encode": _encode,  # by which Python 3 writes bytes for Python 2
}


def which_cifar(folder: Path) -> str | None:
    """Which of the sets a folder holds; None where it holds neither."""
    for name, (_, test, meta, *_) in _SETS.items():
        if (folder / test).is_file() and (folder / meta).is_file():
            return name
    return None


def open_cifar(folder: Path, which: str, *, image_size: int | None) -> Opened:
    """The images in the order in which they are published; of CIFAR-100 with its hundred fine labels.

    Raises:
      UserError: a file is missing or damaged, or asks for what no such file needs.
    """
    batches, test_name, meta, labels, names = _SETS[which]
    train_files = sorted(path for path in folder.iterdir() if re.fullmatch(batches, path.name) and path.is_file())
    if not train_files:
        raise UserError(f"{folder}: no train images of {which} beside {meta}; get the set again")
    class_names = _load(folder / meta).get(names)
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise UserError(f"{folder / meta}: no names of classes in it; get the set again")
    parts = []
    for side, files in (("train", train_files), ("test", [folder / test_name])):
        loaded = [_images(path, labels) for path in files]
        images = np.concatenate([image for image, _ in loaded])
        part, _ = part_of_arrays(
            f"{folder} ({side})", images, np.concatenate([label for _, label in loaded]), np.array(class_names),
            image_size,
        )  # fmt: skip
        parts.append((part, SplitUse(", ".join(path.name for path in files), side, len(images))))
    (train, first), (test, second) = parts
    return Opened(train, test, Account(f"{which} as published", (first, second)))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            value = unpickle(file, _NAMES, most=_MOST_INSTRUCTIONS)
    except (Refused, OSError) as error:
        raise UserError(f"{path}: {error}; get the set again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no table of names; get the set again")
    return value


def _images(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    found = _load(path)
    data, numbers = found.get("data"), found.get(labels)
    values = data.values if isinstance(data, PickledArray) else None
    if values is None or values.ndim != 2 or values.shape[1] != 3072 or not isinstance(numbers, list):
        raise UserError(f"{path}: holds no images [N, 3072] with a list of {labels}; get the set again")
    if not all(type(number) is int for number in numbers):
        raise UserError(f"{path}: its labels are no whole numbers; get the set again")
    return values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(numbers, np.int64)
