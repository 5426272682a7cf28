"""The augmentation of UEraser: fractal changes of brightness and contrast, shuffled channels, TrivialAugment.

Qin et al., Learning the Unlearnable, 2023 (arXiv 2303.15127), with the strengths of their published code. What differs
from it: fractals come from midpoint displacement of all points, not of the new ones alone, and are as often bright as
dark; TrivialAugment draws its operation for each image, not for each batch, and has colour and identity among them.

Every function takes ``key`` first, keeps shape and range, and draws independently for each image of the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.transforms.rand_augment import trivial_augment


def plasma_brightness(key: jax.Array, x: jax.Array) -> jax.Array:
    """Adds a fractal between -s and s to each channel, s uniform in [0.5, 1].

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1].

    Returns:
      Shaped like x, in [0, 1].
    """
    plasma_key, strength_key = jax.random.split(key)
    strength = jax.random.uniform(strength_key, (x.shape[0], 1, 1, 1), x.dtype, 0.5, 1)
    return jnp.clip(x + strength * (2 * _plasma(plasma_key, x) - 1), 0, 1)


def plasma_contrast(key: jax.Array, x: jax.Array) -> jax.Array:
    """Multiplies the distance of each channel from 1/2 by a fractal between 0 and 4.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1].

    Returns:
      Shaped like x, in [0, 1].
    """
    return jnp.clip(4 * _plasma(key, x) * (x - 0.5) + 0.5, 0, 1)


def channel_shuffle(key: jax.Array, x: jax.Array) -> jax.Array:
    """Permutes the channels of each image.

    Args:
      key: PRNG key.
      x: float [B, H, W, C].

    Returns:
      Shaped like x.
    """
    batch, *_, channels = x.shape
    order = jax.random.permutation(key, jnp.tile(jnp.arange(channels), (batch, 1)), axis=1, independent=True)
    return jnp.take_along_axis(x, order[:, None, None], axis=3)


def ueraser(key: jax.Array, x: jax.Array) -> jax.Array:
    """`plasma_brightness`, `plasma_contrast` and `channel_shuffle`, each with probability 1/2, then `trivial_augment`.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1] with C 1 or 3.

    Returns:
      Shaped like x, in [0, 1].
    """
    transforms = (plasma_brightness, plasma_contrast, channel_shuffle)
    coin_key, last_key, *keys = jax.random.split(key, 2 + len(transforms))
    coins = jax.random.bernoulli(coin_key, 0.5, (len(transforms), x.shape[0], 1, 1, 1))
    for transform, own_key, chosen in zip(transforms, keys, coins, strict=True):
        x = jnp.where(chosen, transform(own_key, x), x)
    return trivial_augment(last_key, x)


def _plasma(key: jax.Array, x: jax.Array) -> jax.Array:
    """Fractals in [0, 1] of the shape of images [B, H, W, C], one a channel.

    A grid of 2x2 uniform values is interpolated to twice the resolution and mixed with r^k of uniform noise in the k-th
    doubling: midpoint displacement with successive random additions (Saupe, in The Science of Fractal Images, 1988).
    The roughness r is uniform in [0.3, 0.7], one an image.
    """
    batch, height, width, channels = x.shape
    sides = [2 ** (k + 1) for k in range(max(height - 1, width - 1, 1).bit_length())]
    roughness_key, noise_key = jax.random.split(key)
    roughness = jax.random.uniform(roughness_key, (batch, 1, 1, 1), x.dtype, 0.3, 0.7)
    # One draw for all resolutions: most of the time to compile goes into the generator.
    noise = jax.random.uniform(noise_key, (batch, sum(side**2 for side in sides), channels), x.dtype)
    noises = jnp.split(noise, np.cumsum([side**2 for side in sides])[:-1], axis=1)
    plasma, *noises = (n.reshape(batch, side, side, channels) for n, side in zip(noises, sides, strict=True))
    for k, noise in enumerate(noises, 1):
        share = roughness**k
        plasma = (1 - share) * jax.image.resize(plasma, noise.shape, "linear") + share * noise
    return plasma[:, :height, :width]
