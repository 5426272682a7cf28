"""Arrays in NumPy's own files, read without trusting what they declare."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ugejax.app.exchange.files import TOO_LARGE, opened
from ugejax.data.numpy_file import read_header, read_values
from ugejax.errors import UserError

# Of the widest type that is read, float64.
_WIDEST = 8


def read_npy(path: Path, *, most: int) -> np.ndarray:
    """The array of a `.npy` file.

    Args:
        path: file.
        most: values that it may have.

    Raises:
        UserError: it cannot be read, is damaged, larger, or not of plain numbers.
    """
    with opened(path, most=_WIDEST * most) as file, _damage(path):
        return _read(file, most, str(path))


def read_npz(path: Path, names: tuple[str, ...], *, most: int) -> dict[str, np.ndarray]:
    """Those of the named arrays that a `.npz` archive holds, compressed or not.

    Args:
        path: file.
        names: of the arrays.
        most: values that each may have; what it declares is looked at before anything is unpacked.

    Raises:
        UserError: as for `read_npy`.
    """
    found = {}
    with opened(path, most=len(names) * _WIDEST * most) as file, _damage(path), zipfile.ZipFile(file) as archive:
        for name in names:
            if f"{name}.npy" in archive.namelist():
                with archive.open(f"{name}.npy") as member:
                    found[name] = _read(member, most, f"{path}, array {name!r}")
    return found


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    # A damaged file makes NumPy and zipfile raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: not a whole NumPy file (truncated or damaged?); get it again") from error


def _read(file: IO[bytes], most: int, where: str) -> np.ndarray:
    header = read_header(file, where)
    # A header may declare any size; memory is set aside for what it says.
    if header.size > most:
        raise UserError(f"{where}: {list(header.shape)} {TOO_LARGE}")
    return read_values(file, header)
