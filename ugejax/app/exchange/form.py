"""What every form of exchange is: how a set is read from it and written to it, and what either has to know."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ugejax.data import Splits
from ugejax.data.arrays import to_uint8
from ugejax.errors import UserError


@dataclass(frozen=True, eq=False)
class Imported:
    """What a form's reader returns.

    Attributes:
        images: protected images in the order of the originals, uint8 [n, H, W, C].
        labels: what the set itself says of them, int [n]; None where it says nothing.
        sha256: of each file that was read, by its name.
    """

    images: np.ndarray
    labels: np.ndarray | None
    sha256: dict[str, str]


@dataclass(frozen=True, eq=False)
class Exported:
    """What a form's writer gets.

    Attributes:
        images: released images, uint8 [n, H, W, C].
        labels: int32 [n].
        class_names: one name per label.
        originals: what images were made of, uint8 [n, H, W, C]; None for a form that holds whole images.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    originals: np.ndarray | None


@dataclass(frozen=True)
class Form:
    """A form of exchange as the registry lists it.

    Attributes:
        read: the set at a place (a path as the user wrote it) that was made of these originals; raises UserError where
            it is damaged or not made of them.
        write: the set to a path at which nothing is yet; raises UserError where the form cannot hold it.
        summary: one line for people.
        noise: whether it holds the difference from the originals in place of the images.
    """

    read: Callable[[str, Splits], Imported]
    write: Callable[[Path, Exported], None]
    summary: str
    noise: bool = False


def most_values(splits: Splits) -> int:
    """As many values as there can be in a set: those of all images of the source."""
    return splits.n_available * math.prod(splits.train.images.shape[1:])


def of_train(array: np.ndarray, splits: Splits, where: str) -> np.ndarray:
    """Those rows of an array [M, ...] that go with the train images.

    Raises:
        UserError: M is neither the number of all images of the source nor that of the train images.
    """
    n = len(splits.train.labels)
    if len(array) == splits.n_available:
        return array[splits.train_indices]
    if len(array) == n:
        return array
    subset = "" if n == splits.n_available else f" (or the {n} of them that were chosen)"
    raise UserError(
        f"{where}: made of {len(array)} images, but there are {splits.n_available} originals{subset}; "
        "name those that were used, in the same order"
    )


def images_of_train(array: np.ndarray, splits: Splits, where: str) -> np.ndarray:
    """The protected train images, uint8 [n, H, W, C], in an array of a tool.

    Args:
        array: uint8, or float in [0, 1]; [M, H, W, C] or, as PyTorch has them, [M, C, H, W]; see `of_train` for M.
        splits: the originals.
        where: what a message calls the array.

    Raises:
        UserError: number, size, type or range is another.
    """
    height, width, channels = shape = splits.train.images.shape[1:]
    if array.ndim == 4 and array.shape[1:] == (channels, height, width) != shape:
        array = array.transpose(0, 2, 3, 1)
    images = of_train(to_uint8(where, array), splits, where)
    if images.shape[1:] != shape:
        raise UserError(f"{where}: images of {list(images.shape[1:])}, but their originals are {list(shape)}")
    return images
