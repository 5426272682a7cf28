"""The one fully connected layer of all bodies: it computes in the dtype of what it is given."""

import functools
from typing import Any

import jax
from flax import linen as nn


def _as_input(x: jax.Array, *parameters: jax.Array | None, dtype: Any = None) -> tuple[jax.Array | None, ...]:
    return x, *(None if parameter is None else parameter.astype(x.dtype) for parameter in parameters)


# Flax's own would compute in the widest of the dtypes, that of the float32 parameters.
Dense = functools.partial(nn.Dense, promote_dtype=_as_input)
