"""Images in NumPy files: `.npz` archives and pairs of `.npy` files. Nothing is ever unpickled."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ugejax.data.account import Account, SplitUse, shown, some
from ugejax.data.image_file import resize_images
from ugejax.data.numpy_file import Header, read_header, read_values
from ugejax.data.part import Opened, Part
from ugejax.errors import UserError

_MAGIC = b"\x93NUMPY"
# Numbers, and the text of class names.
_KINDS = "buifUS"
# Bytes to which a compressed archive may unpack.
_MOST_UNPACKED = 2**32
# Arrays that a message names.
_NAMED = 12
# Under what names people save images and labels: of a whole set, and of one that is split.
_PAIRS = (("images", "labels"), ("image", "label"), ("x", "y"), ("X", "y"), ("data", "labels"), ("imgs", "labels"))
_TRAIN_PAIRS = (
    ("x_train", "y_train"), ("X_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y"),
    ("train_X", "train_y"), ("train_data", "train_labels"), ("train_data", "train_targets"),
)  # fmt: skip


def open_npz(path: Path, *, image_size: int | None) -> Opened:
    """An `.npz` archive with labelled images; see `part_of_arrays` for what its arrays hold.

    They are `data` and `targets`, else one of the pairs that people save (`images` and `labels`, `x` and `y`), else one
    of the train images with that of the test images beside it where there is one (`x_train`, `y_train`, `x_test`,
    `y_test`; MedMNIST's `train_images` and so on). `class_names` are read with any of them.

    Raises:
      UserError: the file is damaged, no pair or more than one is there, or an array is not fit for use.
    """
    names = npz_names(path)
    train, test, unused = _pairs(path, names)
    arrays = read_npz(path, (*train, *(test or ()), "class_names"))
    class_names = arrays.get("class_names")
    splits = (SplitUse(train[0], "train", len(arrays[train[0]])),) if test or unused else ()
    part, warnings = part_of_arrays(str(path), arrays[train[0]], arrays[train[1]], class_names, image_size)
    beside = None
    if test is not None:
        splits += (SplitUse(test[0], "test", len(arrays[test[0]])),)
        where = f"{path}, {test[0]}"
        named = np.array(part.class_names) if class_names is None else class_names
        beside, more = part_of_arrays(where, arrays[test[0]], arrays[test[1]], named, image_size)
        warnings += more
    splits += tuple(SplitUse(name, "not used", header.shape[0]) for name, header in unused.items())
    taken = {*train, *(test or ()), *unused, "class_names"}
    if others := [name for name in names if name not in taken]:
        warnings = (*warnings, f"arrays that are not read: {some([shown(name) for name in others])}")
    return Opened(part, beside, Account(".npz archive", splits, warnings=tuple(warnings)))


def _pairs(path: Path, names: list[str]) -> tuple[tuple[str, str], tuple[str, str] | None, dict[str, Header]]:
    """The names of train images and labels, of test images and labels, and the images that are used for nothing.

    Raises:
      UserError: there is no pair, or more than one.
    """
    if "data" in names and "targets" in names:
        return ("data", "targets"), None, {}
    whole = [pair for pair in _PAIRS if set(pair) <= set(names)]
    split = [pair for pair in _TRAIN_PAIRS if set(pair) <= set(names)]
    if len(whole + split) != 1:
        missing = "targets" if "data" in names else "data"
        found = ", ".join(f"{shown(name)} {about}" for name, about in _described(path, names).items())
        what = f"no array {missing!r}" if not whole + split else "more than one pair of images and labels"
        raise UserError(
            f"{path}: {what}; save it with np.savez(path, data=images, targets=labels); it holds {found or 'no array'}"
        )
    ((images, labels),) = whole + split
    if whole:
        return (images, labels), None, {}
    sides = {
        side: (images.replace("train", side), labels.replace("train", side))
        for side in ("test", "val", "valid")
        if {images.replace("train", side), labels.replace("train", side)} <= set(names)
    }
    test = next(iter(sides.values()), None)
    others = [pair[0] for pair in sides.values() if pair is not test]
    return (images, labels), test, {name: _headers(path, [name])[name] for name in others}


def _described(path: Path, names: list[str]) -> dict[str, str]:
    """Type and shape of each array, for people."""
    described = {}
    for name in names[:_NAMED]:
        try:
            header = _headers(path, [name])[name]
        except UserError:  # of Python objects, or damaged
            described[name] = "(Python objects or damaged)"
        else:
            described[name] = f"{header.dtype} {list(header.shape)}"
    return described | ({"and more": ""} if len(names) > _NAMED else {})


def open_npy_pair(images: Path, labels: Path, *, image_size: int | None) -> Opened:
    """Images in one `.npy` file, labels in another; see `part_of_arrays` for what they hold.

    Raises:
      UserError: a file is missing, damaged or not fit for use.
    """
    part, warnings = part_of_arrays(str(images), _read_npy(images), _read_npy(labels), None, image_size)
    return Opened(part, None, Account("pair of .npy files", warnings=warnings))


def part_of_arrays(
    where: str, images: np.ndarray, labels: np.ndarray, class_names: np.ndarray | None, image_size: int | None
) -> tuple[Part, tuple[str, ...]]:
    """A part whose images are in memory, and what is odd about it, a line each.

    Args:
      where: what a message calls it.
      images: [N, H, W] or [N, H, W, 1 or 3], uint8, or float in [0, 1], which becomes round(255 x).
      labels: [N] or [N, 1]: integers from 0, of any type if they are whole, or names of classes; or one-hot, see
        `class_indices`.
      class_names: text [K], or None for the names among the labels, else "0", "1" and so on up to the largest label.
      image_size: side of the square to which images of another size are scaled and cropped, or None.

    Raises:
      UserError: shape, type or range of the images is another, or labels or class names are not of the right kind.
    """
    warnings = ()
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] in (1, 3) and images.shape[2] > 3:
        warnings = (
            f"images {list(images.shape)} could have their channels first or last; they are read as {images.shape[1]} "
            f"x {images.shape[2]} pixels of {images.shape[3]} channels",
        )
    # What only one image or label can be wrong about is left to the checks of Part.
    images = to_uint8(where, images)
    if class_names is not None and (class_names.dtype.kind != "U" or class_names.ndim != 1):
        raise UserError(f"{where}: class_names must be a one-dimensional array of text")
    labels, class_names = _whole_labels(where, labels, class_names)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise UserError(
            f"{where}: {len(images)} images need as many integer labels, not {labels.dtype} {list(labels.shape)}"
        )
    if class_names is None:
        # No more names than images, however large a label a damaged file holds; Part's check then says what is wrong.
        names = tuple(str(i) for i in range(min(int(labels.max(initial=0)) + 1, len(labels))))
    else:
        names = tuple(class_names.tolist())
    # Clipped so that no large label wraps round into a valid one.
    small = np.clip(labels, -1, np.iinfo(np.int32).max).astype(np.int32)
    return Part(where, small, names, lambda indices: resize_images(images[indices], image_size)), warnings


def _whole_labels(
    where: str, labels: np.ndarray, class_names: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels as integers where they are in another form that says the same, and the class names.

    Raises:
      UserError: names among the labels are none of the class names.
    """
    labels = class_indices(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "U" and labels.ndim == 1:
        found, indices = np.unique(labels, return_inverse=True)
        if class_names is None:
            return indices, found
        place = {name: index for index, name in enumerate(class_names.tolist())}
        if strange := [name for name in found.tolist() if name not in place]:
            raise UserError(f"{where}: the label {strange[0]!r} is none of the class names")
        return np.array([place[name] for name in found.tolist()], np.int64)[indices], class_names
    if labels.dtype.kind == "b":
        return labels.astype(np.int64), class_names
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        return np.clip(labels, -1, 2**31).astype(np.int64), class_names
    return labels, class_names


def npz_names(path: Path) -> list[str]:
    """The names of the arrays in an archive; raises as `read_npz` does."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _headers(path: Path, names: list[str]) -> dict[str, Header]:
    with _archive(path) as archive:
        found = {}
        for name in names:
            with archive.open(f"{name}.npy") as member:
                found[name] = read_header(member, str(path), kinds=_KINDS)
        return found


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the archive holds.

    Raises:
      UserError: no such file, no permission, not an archive, damaged, with Python objects inside, or compressed and of
        more than 4 GiB when it is not.
    """
    with _archive(path) as archive:
        # What is not compressed cannot be larger than the file.
        left = max(_MOST_UNPACKED, path.stat().st_size)
        found = {}
        for name in names:
            if f"{name}.npy" in archive.namelist():
                with archive.open(f"{name}.npy") as member:
                    header = read_header(member, str(path), kinds=_KINDS)
                    left -= header.nbytes
                    if left < 0:
                        raise UserError(
                            f"{path}: array {name!r} {list(header.shape)} would unpack to more than "
                            f"{_MOST_UNPACKED >> 30} GiB; save it with np.savez, which does not compress"
                        )
                    found[name] = read_values(member, header)
        return found


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with _reading(path) as file:
        if file.read(6) == _MAGIC:
            raise UserError(f"{path}: a single array, not an .npz archive; save it with np.savez")
        with zipfile.ZipFile(file) as archive:
            yield archive


def _read_npy(path: Path) -> np.ndarray:
    with _reading(path) as file:
        if file.read(2) == b"PK":
            raise UserError(f"{path}: an .npz archive, not a single array; give it the ending .npz")
        file.seek(0)
        header = read_header(file, str(path), kinds=_KINDS)
        if header.nbytes > path.stat().st_size:
            raise ValueError("more is declared than there is")
        return read_values(file, header)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        # A pipe would never end.
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: {'a folder' if path.is_dir() else 'a pipe or device'}, not a file")
        with open(path, "rb") as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it") from error
    # A damaged file makes NumPy and zipfile raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: not a whole NumPy file (truncated or damaged?); save it again") from error


def class_indices(labels: np.ndarray) -> np.ndarray:
    """Integers [N] of one-hot rows [N, K], as NTGA saves its labels; every other array as it is."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "buif":
        return labels
    one_hot = np.isin(labels, (0, 1)).all() and (np.count_nonzero(labels, axis=1) == 1).all()
    return labels.argmax(axis=1) if one_hot else labels


def to_uint8(where: str, images: np.ndarray) -> np.ndarray:
    """Images [N, H, W] or [N, H, W, 1 or 3], uint8 or float in [0, 1], as uint8 [N, H, W, 1 or 3].

    Raises:
      UserError: shape, type or range is another.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        raise UserError(
            f"{where}: images {list(images.shape)} have their channels first; save images.transpose(0, 2, 3, 1)"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise UserError(
            f"{where}: images must be [N, H, W], [N, H, W, 1] or [N, H, W, 3], not empty, but are {list(images.shape)}"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(f"{where}: images must be uint8, or float in [0, 1], but are {images.dtype}; convert them")
    if not np.isfinite(images).all():
        raise UserError(f"{where}: the images hold NaN or infinity; find out where they come from and save them again")
    if images.min() < 0 or images.max() > 1:
        raise UserError(
            f"{where}: float images must lie in [0, 1], but range from {images.min():g} to {images.max():g}; "
            "scale them, or save them as uint8"
        )
    return np.rint(images * 255).astype(np.uint8)
