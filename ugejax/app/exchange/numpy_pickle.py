"""Pickled NumPy arrays of int8, read without unpickling and written for every version of NumPy."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ugejax.app.exchange.files import opened
from ugejax.errors import UserError
from ugejax.pickled_array import PickledArray, array_names
from ugejax.unpickle import Refused, unpickle

_NAMES = array_names(np.int8, "is an array of another type than int8, the grey levels of this form")


def read_int8(path: Path, *, most: int) -> np.ndarray:
    """The int8 array that `pickle.dump` wrote, with protocol 3 to 5.

    Args:
        path: file.
        most: values that it may have.

    Raises:
        UserError: it cannot be read, is damaged or larger, or holds anything else.
    """
    with opened(path, most=most) as file:
        try:
            value = unpickle(file, _NAMES)
        except Refused as error:
            raise UserError(f"{path}: {error}") from error
    if not isinstance(value, PickledArray) or value.values is None:
        raise UserError(f"{path}: holds no array of NumPy, or more than one; save the array of the noise alone")
    return value.values


def write_int8(file: BinaryIO, array: np.ndarray) -> None:
    """Writes an int8 array as `pickle.dump` does, by the names that NumPy 1 and 2 both know."""
    array = np.ascontiguousarray(array, np.int8)
    shape = b"".join(b"\x8a\x08" + side.to_bytes(8, "little", signed=True) for side in array.shape)
    file.write(
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01(" + shape + b"tcnumpy\ndtype\nX\x02\x00\x00\x00i1\x89\x88\x87R"
        b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89\x8e" + array.size.to_bytes(8, "little")
    )
    file.write(array.data.cast("B"))
    file.write(b"tb.")
