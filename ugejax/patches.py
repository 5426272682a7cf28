"""Images as non-overlapping square patches, the unit of the linear blind sets and of transformers."""

import jax
import jax.numpy as jnp


def patchify(x: jax.Array, size: int) -> jax.Array:
    """Images [..., H, W, C] as patches [..., (H / size) * (W / size), size * size * C], row by row."""
    *lead, h, w, c = x.shape
    x = x.reshape(*lead, h // size, size, w // size, size, c)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*lead, (h // size) * (w // size), size * size * c)


def unpatchify(patches: jax.Array, size: int, shape: tuple[int, int, int]) -> jax.Array:
    """The inverse of `patchify` for images of shape (H, W, C)."""
    h, w, c = shape
    lead = patches.shape[:-2]
    x = patches.reshape(*lead, h // size, w // size, size, size, c)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*lead, h, w, c)
