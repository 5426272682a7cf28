"""What networks on patches have in common: an image's patches as tokens, and the layers that turn tokens into tokens.

Layers are PyTorch's in Flax's terms: layer norm has epsilon 1e-5, GELU is exact.
"""

import functools
from typing import Any

import jax
from flax import linen as nn

from ugejax.networks.dense import Dense
from ugejax.networks.sizes import require_tiles
from ugejax.patches import patchify

gelu = functools.partial(nn.gelu, approximate=False)


def tokens_of(x: jax.Array, patch: int) -> jax.Array:
    """The patches of maps x [B, H, W, C], row by row: [B, (H / patch) * (W / patch), patch * patch * C].

    Raises:
        UserError: the patches do not tile x.
    """
    require_tiles(x, patch)
    return patchify(x, patch)


class LayerNorm(nn.LayerNorm):
    """Flax's, of whose tokens the result has the dtype; the arithmetic is float32 whatever that is."""

    epsilon: float = 1e-5

    def __call__(self, x: jax.Array, *arguments: Any, **named: Any) -> jax.Array:
        """Normalised tokens, shaped like x."""
        return super().__call__(x, *arguments, **named).astype(x.dtype)


class FeedForward(nn.Module):
    """Dense, GELU, Dense along the last axis, which keeps its size.

    Attributes:
        hidden: number of hidden units.
        dropout: rate after the GELU and at the end, in training.
    """

    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [..., D] to [..., D]; `train` as in `Classifier.features`."""
        y = nn.Dropout(self.dropout, deterministic=not train)(gelu(Dense(self.hidden)(x)))
        return nn.Dropout(self.dropout, deterministic=not train)(Dense(x.shape[-1])(y))
