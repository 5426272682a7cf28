"""NumPy's arrays of bytes in pickles: entries of the table of names that `ugejax.unpickle` takes."""

from typing import Any

import numpy as np

from ugejax.unpickle import Buildable, Refused


class PickledArray(Buildable):
    """An array of one byte a value; it has none until its state comes.

    Attributes:
        values: the array, of the type that its names were made for.
    """

    values: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Take the state that NumPy pickles: version, shape, type, order of the axes, bytes or text of bytes."""
        _, shape, dtype, fortran_order, data = state
        self.values = _array(data, dtype, shape, "F" if fortran_order else "C").values


class _Type(Buildable):
    """The only type that is read; its state says what is known: no byte order, no fields."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype

    def build(self, state: Any) -> None:
        pass


def array_names(dtype: type, otherwise: str) -> dict[str, Any]:
    """The names by which NumPy 1 and 2 pickle an array, with what stands for them.

    Args:
        dtype: np.int8 or np.uint8, the only type that is read.
        otherwise: what is said of a file with another, as half a sentence to go after its name.
    """
    only = np.dtype(dtype)

    def dtype_of(code: Any, *_: Any) -> _Type:
        if code != only.str[1:]:
            raise Refused(otherwise)
        return _Type(only)

    return {
        "numpy.ndarray": None,
        "numpy.dtype": dtype_of,
        # Protocol 5 has _frombuffer for an array without gaps.
        **{f"numpy.{core}.multiarray._reconstruct": lambda *_: PickledArray() for core in ("core", "_core")},
        **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
    }


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    # Bytes are a sequence of numbers as well, and may be as long as the file.
    if not (isinstance(dtype, _Type) and type(shape) is tuple):
        raise ValueError("not the state of an array")
    content = data.encode("latin-1") if isinstance(data, str) else data
    made = PickledArray()
    made.values = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return made
