"""Images in NumPy files: `.npz` archives and pairs of `.npy` files. Nothing is ever unpickled."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ugejax.data.image_file import resize_images
from ugejax.data.numpy_file import read_header, read_values
from ugejax.data.part import Part
from ugejax.errors import UserError

_MAGIC = b"\x93NUMPY"
# Numbers, and the text of class names.
_KINDS = "buifU"
# Bytes to which a compressed archive may unpack.
_MOST_UNPACKED = 2**32


def open_npz(path: Path, *, image_size: int | None) -> Part:
    """An `.npz` archive with `data`, `targets` and perhaps `class_names`; see `part_of_arrays` for what they hold.

    Raises:
      UserError: the file is damaged, an array is missing or not fit for use.
    """
    arrays = read_npz(path, ("data", "targets", "class_names"))
    for name in ("data", "targets"):
        if name not in arrays:
            raise UserError(f"{path}: no array {name!r}; save it with np.savez(path, data=images, targets=labels)")
    return part_of_arrays(str(path), arrays["data"], arrays["targets"], arrays.get("class_names"), image_size)


def open_npy_pair(images: Path, labels: Path, *, image_size: int | None) -> Part:
    """Images in one `.npy` file, labels in another; see `part_of_arrays` for what they hold.

    Raises:
      UserError: a file is missing, damaged or not fit for use.
    """
    return part_of_arrays(str(images), _read_npy(images), _read_npy(labels), None, image_size)


def part_of_arrays(
    where: str, images: np.ndarray, labels: np.ndarray, class_names: np.ndarray | None, image_size: int | None
) -> Part:
    """A part whose images are in memory.

    Args:
      where: what a message calls it.
      images: [N, H, W] or [N, H, W, 1 or 3], uint8, or float in [0, 1], which becomes round(255 x).
      labels: integers [N] from 0, or one-hot, see `class_indices`.
      class_names: text [K], or None for "0", "1" and so on up to the largest label.
      image_size: side of the square to which images of another size are scaled and cropped, or None.

    Raises:
      UserError: shape, type or range of the images is another, or labels or class names are not of the right kind.
    """
    # What only one image or label can be wrong about is left to the checks of Part.
    images, labels = to_uint8(where, images), class_indices(labels)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise UserError(
            f"{where}: {len(images)} images need as many integer labels, not {labels.dtype} {list(labels.shape)}"
        )
    if class_names is None:
        # No more names than images, however large a label a damaged file holds; Part's check then says what is wrong.
        names = tuple(str(i) for i in range(min(int(labels.max(initial=0)) + 1, len(labels))))
    elif class_names.dtype.kind == "U" and class_names.ndim == 1:
        names = tuple(class_names.tolist())
    else:
        raise UserError(f"{where}: class_names must be a one-dimensional array of text")
    # Clipped so that no large label wraps round into a valid one.
    small = np.clip(labels, -1, np.iinfo(np.int32).max).astype(np.int32)
    return Part(where, small, names, lambda indices: resize_images(images[indices], image_size))


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the archive holds.

    Raises:
      UserError: no such file, no permission, not an archive, damaged, with Python objects inside, or compressed and of
        more than 4 GiB when it is not.
    """
    with _reading(path) as file:
        if file.read(6) == _MAGIC:
            raise UserError(f"{path}: a single array, not an .npz archive; save it with np.savez")
        # What is not compressed cannot be larger than the file.
        left = max(_MOST_UNPACKED, path.stat().st_size)
        found = {}
        with zipfile.ZipFile(file) as archive:
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
