"""Transforms that move pixels: crop, flip and resize.

Every function takes ``key`` first, then images float [B, H, W, C] in [0, 1], then keyword-only options; keeps the shape
and the range; is linear in the images; and draws independently for each image of the batch. What is drawn depends on
the key and the shape alone: the same key gives x and x + delta the same transform.
"""

import jax
import jax.numpy as jnp


def random_crop(key: jax.Array, x: jax.Array, *, padding: int, border: str = "constant") -> jax.Array:
    """Pads on all sides and cuts a window of the original size out at random.

    Args:
      key: PRNG key.
      x: float [B, H, W, C].
      padding: pixels on each side, at least 0; the window moves by up to as many in each direction.
      border: what the padding holds, as a mode of `jnp.pad`: "constant" for zeros, "reflect" for the mirrored image.

    Returns:
      Shaped like x.
    """
    batch, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=border)
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    # On CPU two to five times faster than one-hot products or bitwise shifts, and than two gathers in the gradient.
    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(window)(padded, corners)


def random_flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2.

    Args:
      key: PRNG key.
      x: float [B, H, W, C].

    Returns:
      Shaped like x.
    """
    mirrored = jax.random.bernoulli(key, 0.5, (x.shape[0], 1, 1, 1))
    return jnp.where(mirrored, x[:, :, ::-1, :], x)


def crop_flip(key: jax.Array, x: jax.Array, *, padding: int | None = None) -> jax.Array:
    """The field's standard augmentation: `random_crop`, then `random_flip`.

    Args:
      key: PRNG key.
      x: float [B, H, W, C].
      padding: pixels on each side; without it an eighth of the shorter side, at least 1 (the usual 4 for 32 x 32
        images).

    Returns:
      Shaped like x.
    """
    crop_key, flip_key = jax.random.split(key)
    if padding is None:
        padding = max(1, min(x.shape[1:3]) // 8)
    return random_flip(flip_key, random_crop(crop_key, x, padding=padding))


def resize(key: jax.Array, x: jax.Array) -> jax.Array:
    """Scales each image down by a random factor from [1/2, 1], and up again, bilinearly.

    Reduction averages over what a sample stands for (antialiasing), as Pillow and `jax.image.resize` do it. The factor
    is the same for height and width, up to rounding to whole pixels.

    Args:
      key: PRNG key.
      x: float [B, H, W, C].

    Returns:
      Shaped like x.
    """
    factor = jax.random.uniform(key, (x.shape[0],), minval=0.5, maxval=1)
    rows, columns = (jax.vmap(lambda f, size=size: _down_and_up(f, size))(factor) for size in x.shape[1:3])
    return jnp.einsum("bij,bkl,bjlc->bikc", rows, columns, x, precision=jax.lax.Precision.HIGHEST)


def _down_and_up(factor: jax.Array, size: int) -> jax.Array:
    """The matrix [size, size] that reduces a row of pixels by a factor and interpolates it back."""
    count = jnp.maximum(1, jnp.round(factor * size))
    places = jnp.arange(size) + 0.5
    # The triangle around each sample, one sample wide; samples up to `count` exist, so that the shape is static.
    triangles = jnp.maximum(0, 1 - jnp.abs(places * count / size - places[:, None]))
    triangles = jnp.where(places[:, None] < count, triangles, 0)
    down = triangles / jnp.maximum(triangles.sum(axis=1, keepdims=True), 1e-6)
    up = triangles / triangles.sum(axis=0)
    return up.T @ down
