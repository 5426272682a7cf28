"""Fixed linear filters: blur and the removal of colour. Images are float [..., H, W, C] in [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as in JPEG and in Pillow's "L"


def blur(x: jax.Array) -> jax.Array:
    """Binomial blur (1, 2, 1) / 4 along rows and columns of each channel, edges repeated.

    A Gaussian of about 0.7 pixels: its variance is 1/2 pixel along each axis.

    Args:
      x: float [..., H, W, C].

    Returns:
      Shaped like x.
    """
    height, width = x.shape[-3:-1]
    # Two matrix products: on CPU twice as fast as shifted slices.
    return jnp.einsum(
        "ij,kl,...jlc->...ikc", _binomial(height), _binomial(width), x, precision=jax.lax.Precision.HIGHEST
    )


def grey(x: jax.Array) -> jax.Array:
    """Colour removed: every channel becomes the luma ``0.299 R + 0.587 G + 0.114 B``.

    Args:
      x: float [..., H, W, C] with C 1 or 3; one channel stays as it is.

    Returns:
      Shaped like x.
    """
    if x.shape[-1] == 1:
        return x
    luma = sum(weight * x[..., channel] for channel, weight in enumerate(LUMA))
    return jnp.broadcast_to(jnp.asarray(luma)[..., None], x.shape)


def _binomial(size: int) -> np.ndarray:
    """The matrix [size, size] of the filter (1, 2, 1) / 4 along a row of pixels, edges repeated."""
    padded = np.pad(np.eye(size, dtype=np.float32), ((1, 1), (0, 0)), mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
