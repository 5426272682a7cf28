"""Arrays of a safetensors file: a JSON header that says where each array's bytes lie. Nothing in it is run."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.errors import UserError

# By the names of the format. NumPy has no bfloat16: the upper half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MOST_HEADER_BYTES = 100_000_000  # of the format


def read_safetensors(path: Path, choose: Callable[[list[str]], list[str]]) -> dict[str, np.ndarray]:
    """Floating-point arrays as they are stored, bfloat16 as float32: those that `choose` picks of all names.

    Raises:
        UserError: the file is missing, damaged, or a chosen array is of another kind.
    """
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _MOST_HEADER_BYTES:
                raise ValueError("a header of that size")
            header = json.loads(file.read(size))
            end = path.stat().st_size - 8 - size
            header.pop("__metadata__", None)
            return {name: _read(file, 8 + size, end, header[name]) for name in choose(list(header))}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: give the safetensors file of the weights") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    # What a header that is no safetensors header makes of the lines above.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise UserError(f"{path}: not a whole safetensors file of plain numbers; fetch it again") from error


def _read(file: Any, base: int, end: int, entry: dict[str, Any]) -> np.ndarray:
    dtype, shape, (start, stop) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
    if not (0 <= start <= stop <= end and stop - start == math.prod(shape) * dtype.itemsize):
        raise ValueError("bytes that are not there")
    file.seek(base + start)
    array = np.frombuffer(file.read(stop - start), dtype).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
