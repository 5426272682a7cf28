"""The one group norm of all networks: sums over positions channel by channel, which a processor adds up in vectors."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He, ECCV 2018) of NHWC maps.

    y = scale * (x - mean) / sqrt(variance + epsilon) + bias, mean and variance of an example over the positions and the
    channels of a group. The parameters are those of Flax's layer of the same name, float32 `scale` (ones) and `bias`
    (zeros), and so are the values but for rounding; the variance is the mean square less the squared mean here too.

    Attributes:
        num_groups: G; C is a multiple of it.
        epsilon: added to the variance.
    """

    num_groups: int
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalised maps [B, H, W, C] of x [B, H, W, C], of its dtype."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        values = x.astype(jnp.float32)

        def over_group(of_channel: jax.Array) -> jax.Array:
            grouped = of_channel.reshape(-1, self.num_groups, channels // self.num_groups)
            return jnp.broadcast_to(grouped.mean(axis=-1, keepdims=True), grouped.shape).reshape(-1, channels)

        mean = over_group(values.mean(axis=(1, 2)))
        variance = jnp.maximum(over_group((values * values).mean(axis=(1, 2))) - mean * mean, 0)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        offset = bias - mean * factor
        return (values * factor[:, None, None] + offset[:, None, None]).astype(x.dtype)
