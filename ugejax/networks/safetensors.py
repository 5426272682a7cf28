"""Arrays of a safetensors file: a header says where the bytes of each lie. Nothing in it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax  # noqa: F401, which makes bfloat16 known to NumPy
import numpy as np
from safetensors import SafetensorError, safe_open

from ugejax.errors import UserError

# By the names of the format.
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_safetensors(path: Path, choose: Callable[[list[str]], list[str]]) -> dict[str, np.ndarray]:
    """Floating-point arrays as they are stored, bfloat16 as float32: those that `choose` picks of all names.

    Raises:
        UserError: the file is missing, damaged, or a chosen array is of another kind.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: _read(file, name) for name in choose(list(file.keys()))}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: give the safetensors file of the weights") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file of plain numbers; fetch it again") from error


def _read(file: Any, name: str) -> np.ndarray:
    kind = file.get_slice(name).get_dtype()
    if kind not in _FLOATS:
        raise SafetensorError(f"{name} is of {kind}")
    array = file.get_tensor(name)
    return array.astype(np.float32) if kind == "BF16" else array
