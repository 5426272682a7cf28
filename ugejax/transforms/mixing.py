"""Transforms that hide part of an image or mix images, with their labels where they mix.

Every function takes ``key`` first, keeps shape and range, is differentiable in the images and draws independently for
each image of the batch. Labels are float [B, K], the shares of the classes in each image.
"""

import jax
import jax.numpy as jnp


def cutout(key: jax.Array, x: jax.Array) -> jax.Array:
    """Blackens a square of half the image's shorter side at a random place; what lies outside the image is lost.

    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017 (arXiv 1708.04552):
    the centre is uniform over the pixels, the side is the 16 of 32 that they found best for CIFAR-10.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1].

    Returns:
      Shaped like x.
    """
    batch, height, width, _ = x.shape
    side = jnp.full(batch, min(height, width) // 2)
    return jnp.where(_boxes(key, side, side, height, width), 0, x)


def mixup(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mixes each image, and its label, with another of the batch.

    ``lambda x_i + (1 - lambda) x_j`` with j from a random permutation and lambda from Beta(1, 1), which is uniform:
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018 (arXiv 1710.09412), equation 2; alpha = 1 is
    theirs for CIFAR-10. They draw one lambda per batch, we draw one per image.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1].
      y: float [B, K].

    Returns:
      Shaped like x, and like y.
    """
    share_key, partner_key = jax.random.split(key)
    share = jax.random.uniform(share_key, (x.shape[0],), x.dtype)
    partner = jax.random.permutation(partner_key, x.shape[0])
    of_x, of_y = share[:, None, None, None], share[:, None]
    return of_x * x + (1 - of_x) * x[partner], of_y * y + (1 - of_y) * y[partner]


def cutmix(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another image of the batch into each; the labels are mixed by area.

    Yun et al., CutMix, ICCV 2019 (arXiv 1905.04899), equations 1 and 2 and their code: a box of sides
    ``sqrt(1 - lambda)`` of the image's, lambda uniform, the centre uniform over the pixels; what lies outside the image
    is lost, and the share of the label is the area that is left. They draw one box per batch, we draw one per image.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1].
      y: float [B, K].

    Returns:
      Shaped like x, and like y.
    """
    size_key, box_key, partner_key = jax.random.split(key, 3)
    batch, height, width, _ = x.shape
    side = jnp.sqrt(jax.random.uniform(size_key, (batch,)))
    partner = jax.random.permutation(partner_key, batch)
    pasted = _boxes(
        box_key, (side * height).astype(jnp.int32), (side * width).astype(jnp.int32), height, width
    )  # fmt: skip
    share = pasted.mean(axis=(1, 2), dtype=y.dtype)
    return jnp.where(pasted, x[partner], x), (1 - share) * y + share * y[partner]


def _boxes(key: jax.Array, tall: jax.Array, wide: jax.Array, height: int, width: int) -> jax.Array:
    """Which pixels lie in boxes of int [B] rows by int [B] columns around random pixels: bool [B, height, width, 1]."""
    row_key, column_key = jax.random.split(key)

    def within(key, side, size):
        first = jax.random.randint(key, side.shape, 0, size) - side // 2
        offset = jnp.arange(size) - first[:, None]
        return (offset >= 0) & (offset < side[:, None])

    return (within(row_key, tall, height)[:, :, None] & within(column_key, wide, width)[:, None, :])[..., None]
