"""Arrays in NumPy's own format, whose header is looked at before anything is read for what it declares."""

import dataclasses
import math
from typing import IO

import numpy as np

from ugejax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Header:
    """What the header of an array declares.

    Attributes:
        shape: of the array.
        fortran_order: whether the first axis is the fastest.
        dtype: of plain numbers, or of text.
        size: number of values.
        nbytes: size in bytes.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    size: int
    nbytes: int


def read_header(file: IO[bytes], where: str, *, kinds: str = "buif") -> Header:
    """The header of an array; the file is left at its first value.

    Args:
        file: binary file.
        where: what a message calls the array.
        kinds: of dtypes that are let through; none that could hold objects.

    Raises:
        UserError: the array is of another kind.
        ValueError: the header is damaged or longer than 10,000 characters; a damaged one may raise nearly anything.
    """
    major, _ = np.lib.format.read_magic(file)
    header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
    shape, fortran_order, dtype = header(file)
    if dtype.hasobject:
        raise UserError(f"{where}: holds Python objects, which are never loaded; save plain numbers")
    if dtype.kind not in kinds:
        raise UserError(f"{where}: of {dtype}, not of plain numbers")
    if min(shape, default=0) < 0:
        raise ValueError("a negative side")
    size = math.prod(shape)
    return Header(shape, fortran_order, dtype, size, size * dtype.itemsize)


def read_values(file: IO[bytes], header: Header) -> np.ndarray:
    """The array whose header was read, not writeable; a file that is cut off raises ValueError."""
    values = np.frombuffer(file.read(header.nbytes), header.dtype, header.size)
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")
