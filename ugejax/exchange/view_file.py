"""The frozen secret part of a key in a safetensors file, for a partner who trains without JAX.

A safetensors file is the length of its header, the header in JSON, and the numbers; reading it runs nothing.
"""

import json
from typing import BinaryIO

import numpy as np

from ugejax.authorized.content import ContentView
from ugejax.authorized.dither import DitherView
from ugejax.authorized.legacy import ThreefryView
from ugejax.authorized.linear import LinearView
from ugejax.authorized.view import View
from ugejax.errors import UserError

_TYPES = {np.dtype("<f4"): "F32", np.dtype("<i8"): "I64"}


def view_arrays(view: View) -> dict[str, np.ndarray]:
    """The arrays of a view, by the names under which they are exported.

    Returns:
        Of `keyed-linear` and `keyed-content`: `bases`, float32 [K, P, n, s], and `hash_weights`, float32 [K, P * C],
        where a linear view is one of K = 1. Of `keyed-dither`: `secret` and `salt`, int64 [4], `anchors`, int64 [A],
        and `step`, int64 []; without `salt` of a key of ugejax 0.1.

    Raises:
        UserError: there is no secret view.
    """
    match view:
        case LinearView():
            basis = np.asarray(view.basis)
            count, values, _ = basis.shape
            weights = np.zeros((1, count * values // view.patch**2), np.float32)
            return {"bases": basis[None], "hash_weights": weights}
        case ContentView():
            return {"bases": np.asarray(view.bases), "hash_weights": np.asarray(view.hash_weights)}
        case DitherView() | ThreefryView():
            values = {"secret": view.secret, "anchors": view.anchors, "step": view.step}
            if isinstance(view, DitherView):
                values["salt"] = view.salt
            return {name: np.asarray(value, np.int64) for name, value in values.items()}
    raise UserError("this key has no secret view: its secret is the network's weights, which its checkpoint holds")


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
