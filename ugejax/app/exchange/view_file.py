"""The frozen secret part of a key in a safetensors file, for a partner who trains without JAX.

A safetensors file is the length of its header, the header in JSON, and the numbers; reading it runs nothing.
"""

import json
from typing import BinaryIO

import numpy as np

_TYPES = {np.dtype("<f4"): "F32", np.dtype("<i8"): "I64"}


def write_safetensors(file: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes float32 and int64 arrays, and texts beside them, as safetensors does."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype], "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(array.tobytes())
