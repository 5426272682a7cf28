"""The one fully connected layer of all bodies: it computes in the dtype of what it is given."""

import functools
from typing import Any

from flax import linen as nn


def _as_input(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    x, *parameters = arrays
    return [x, *(None if parameter is None else parameter.astype(x.dtype) for parameter in parameters)]


# Flax's own would compute in the widest of the dtypes, that of the float32 parameters.
Dense = functools.partial(nn.Dense, promote_dtype=_as_input)
