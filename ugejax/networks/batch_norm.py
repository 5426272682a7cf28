"""The one batch norm of all networks, with PyTorch's defaults, so that figures and weights carry over."""

from typing import Any

import jax
from flax import linen as nn


class BatchNorm(nn.BatchNorm):
    """Flax's, of whose maps the result has the dtype; statistics and arithmetic are float32 whatever that is."""

    def __call__(self, x: jax.Array, *arguments: Any, **named: Any) -> jax.Array:
        """Normalised maps, shaped like x."""
        return super().__call__(x, *arguments, **named).astype(x.dtype)


def batch_norm(train: bool, name: str) -> BatchNorm:
    """Batch norm of momentum 0.9 and epsilon 1e-5: PyTorch's defaults in Flax's terms.

    Its running variance is the biased one, where PyTorch keeps the unbiased one.

    Args:
        train: whether it uses the statistics of the batch and updates the running ones.
        name: of the submodule.
    """
    return BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
