"""What every network has in common: it normalises its input, gives features, and classifies them by its `head`."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Classifier(nn.Module):
    """A body that turns normalised images into features, and a Dense `head` that turns features into logits.

    The parameters are {"body": ..., "head": {"kernel", "bias"}}, all float32; a body with batch norm adds the
    collection "batch_stats". `__call__` is the head applied to `features`.

    A body that takes something from the images before it is trained on them has a method `prepare`, see there.

    Attributes:
        body: module called as body(x, train) on normalised images [B, H, W, C], returning features [B, D].
        num_classes: number of logits.
        mean: per-channel mean that the network subtracts, for RGB; a grey image gets the average of the three.
        std: per-channel scale by which the network then divides, treated alike.
        dtype: in which the body computes, such as jnp.bfloat16; None for that of the images. Parameters, statistics and
            normalisation, the features that come out, and the head are float32 whatever it is.
    """

    body: nn.Module
    num_classes: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    dtype: Any = None

    def setup(self):
        """Defines the head."""
        self.head = nn.Dense(self.num_classes)

    def features(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Penultimate features [B, D] of images x, float [B, H, W, C] in [0, 1] with C 1 or 3.

        With `train`, batch norm (where there is one) uses the statistics of the batch and updates "batch_stats",
        which the caller then has to name as mutable; dropout (where there is some) takes the PRNG key "dropout".

        Raises:
            ValueError: x has another shape or is not floating point.
        """
        normalised = self._normalise(x)
        return self.body(normalised.astype(self.dtype or x.dtype), train).astype(x.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits [B, num_classes] of images x; arguments and errors are those of `features`."""
        return self.head(self.features(x, train))

    @nn.nowrap
    def prepare(self, variables: Any, pieces: Iterable[jax.Array]) -> Any:
        """The variables with which training on these images begins; those given, unless the body has a `prepare`.

        That one is called as prepare(statistics, pieces) with the body's "batch_stats" and an iterable of normalised
        images [n, H, W, C], and returns such statistics. It keeps what images gave before, so that fine-tuning goes on
        with it.

        Args:
            variables: initial ones, or those of a network that was trained before.
            pieces: training images as the network sees them, float [n, H, W, C] in [0, 1] each; not looked at by a body
                that takes nothing from them.
        """
        if not hasattr(self.body, "prepare"):
            return variables
        statistics = variables["batch_stats"]
        body = self.body.prepare(statistics["body"], map(self._normalise, pieces))
        return {**variables, "batch_stats": {**statistics, "body": body}}

    def _normalise(self, x: jax.Array) -> jax.Array:
        if x.ndim != 4 or x.shape[-1] not in (1, 3) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"images must be floating point [B, H, W, 1 or 3], not {x.dtype} {x.shape}")
        mean, std = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.std, x.dtype)
        if x.shape[-1] == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return (x - mean) / std
