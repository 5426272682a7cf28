"""RandAugment and TrivialAugment: operations of image editing, drawn at random for each image.

Both take ``key`` first, keep shape and range, and draw independently for each image of the batch. What is drawn depends
on the key and the shape alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.compiler import on_cpu
from ugejax.transforms.filters import grey

LEVELS = 30  # of magnitude


def rand_augment(key: jax.Array, x: jax.Array, *, operations: int = 3, magnitude: int = 5) -> jax.Array:
    """Edits each image by several random operations of one strength, one after the other.

    Cubuk et al., RandAugment, NeurIPS 2020 (arXiv 1909.13719), with their settings for a WideResNet-28-10 on CIFAR-10.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1] with C 1 or 3.
      operations: how many of `OPERATIONS` are drawn, with replacement.
      magnitude: 0 to `LEVELS`; 0 leaves all but autocontrast and equalize without effect.

    Returns:
      Shaped like x, in [0, 1].
    """
    choice_key, sign_key = jax.random.split(key)
    choices = jax.random.randint(choice_key, (operations, x.shape[0]), 0, len(OPERATIONS))
    strengths = magnitude / LEVELS * jax.random.rademacher(sign_key, choices.shape, x.dtype)
    return jax.lax.scan(lambda x, drawn: (_edit(x, *drawn), None), x, (choices, strengths))[0]


def trivial_augment(key: jax.Array, x: jax.Array) -> jax.Array:
    """Edits each image by one random operation of random strength.

    Müller and Hutter, TrivialAugment, ICCV 2021 (arXiv 2103.10158), algorithm 1, in RandAugment's space of operations
    and at any strength in it, where they have 31 levels.

    Args:
      key: PRNG key.
      x: float [B, H, W, C] in [0, 1] with C 1 or 3.

    Returns:
      Shaped like x, in [0, 1].
    """
    choice_key, strength_key = jax.random.split(key)
    choices = jax.random.randint(choice_key, x.shape[:1], 0, len(OPERATIONS))
    return _edit(x, choices, jax.random.uniform(strength_key, x.shape[:1], x.dtype, -1, 1))


def _edit(x: jax.Array, choices: jax.Array, strengths: jax.Array) -> jax.Array:
    """Images [B, H, W, C], each edited by the operation of that index [B] with that strength [B]."""

    def edit(drawn):
        image, choice, strength = drawn
        return jax.lax.switch(choice, tuple(OPERATIONS.values()), image, strength)

    if on_cpu():  # over ten times faster there: batched, a switch computes every branch
        return jax.lax.map(edit, (x, choices, strengths))
    return jax.vmap(edit)((x, choices, strengths))


def _affine(image: jax.Array, *matrix: tuple) -> jax.Array:
    """The nearest pixels of an image [H, W, C] at matrix (column, row, 1), black outside of it, as Pillow takes them.

    Args:
      image: float [H, W, C].
      matrix: two rows of three numbers, which give the column and the row; pixels have their centres at halves.
    """
    rows, columns = (place.astype(np.float32) + 0.5 for place in np.indices(image.shape[:2]))
    column, row = (jnp.floor(a * columns + b * rows + c).astype(jnp.int32) for a, b, c in matrix)
    return image.at[row, column].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _rotate(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Up to 30 degrees around the middle, anticlockwise where the strength is positive."""
    middle_row, middle_column = image.shape[0] / 2, image.shape[1] / 2
    cosine, sine = jnp.cos(strength * np.pi / 6), jnp.sin(strength * np.pi / 6)
    return _affine(
        image,
        (cosine, -sine, middle_column - cosine * middle_column + sine * middle_row),
        (sine, cosine, middle_row - sine * middle_column - cosine * middle_row),
    )


def _enhance(degenerate: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Towards an image without some quality, or away from it: by a factor of 0.1 to 1.9 of the difference."""

    def enhance(image, strength):
        without = degenerate(image)
        return jnp.clip(without + (1 + 0.9 * strength) * (image - without), 0, 1)

    return enhance


def _mean_grey(image: jax.Array) -> jax.Array:
    return jnp.broadcast_to(grey(image)[..., 0].mean(), image.shape)


def _smooth(image: jax.Array) -> jax.Array:
    """Mean over 3x3 pixels, the middle one counted five times, at the border the image itself: Pillow's SMOOTH."""
    height, width, _ = image.shape
    around = [image[i : i + height - 2, j : j + width - 2] for i in range(3) for j in range(3)]
    return image.at[1:-1, 1:-1].set((sum(around) + 4 * image[1:-1, 1:-1]) / 13)


def _posterize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """The upper 8 to 4 bits of each value."""
    step = 2 ** jnp.round(4 * jnp.abs(strength))
    return _straight_through(image, step * jnp.floor(jnp.round(255 * image) / step) / 255)


def _solarize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Values above a threshold turned into their negative."""
    return jnp.where(255 * image >= 256 * (1 - jnp.abs(strength)), 1 - image, image)


def _autocontrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    """The darkest value of each channel becomes 0, the brightest 1; a channel of one grey level stays."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    flat = high - low < 1 / 255
    return jnp.where(flat, image, (image - low) / jnp.where(flat, 1, high - low))


def _equalize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Grey levels spread so that all occur about equally often in each channel, in whole numbers as Pillow does it."""

    def spread(levels):
        counts = jnp.bincount(levels.ravel(), length=256)
        step = (levels.size - counts[levels.max()]) // 255
        darker = (jnp.cumsum(counts) - counts)[levels]
        return jnp.where(step == 0, levels, (darker + step // 2) // jnp.maximum(step, 1))

    levels = jnp.clip(jnp.round(255 * image), 0, 255).astype(jnp.int32)  # a hacker's images may leave [0, 1]
    return _straight_through(image, jnp.clip(jax.vmap(spread, 2, 2)(levels), 0, 255) / 255)


def _straight_through(image: jax.Array, value: jax.Array) -> jax.Array:
    """The value, with the gradient of the image, see `quantisation.round_straight_through`."""
    return image + jax.lax.stop_gradient(value - image)


# Each maps an image [H, W, C] in [0, 1] and a strength in [-1, 1]. The sign is a direction, where there are two.
OPERATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "identity": lambda image, strength: image,
    "shear-x": lambda image, strength: _affine(image, (1, 0.3 * strength, 0), (0, 1, 0)),
    "shear-y": lambda image, strength: _affine(image, (1, 0, 0), (0.3 * strength, 1, 0)),
    "translate-x": lambda image, strength: _affine(image, (1, 0, 0.45 * image.shape[1] * strength), (0, 1, 0)),
    "translate-y": lambda image, strength: _affine(image, (1, 0, 0), (0, 1, 0.45 * image.shape[0] * strength)),
    "rotate": _rotate,
    "brightness": _enhance(jnp.zeros_like),
    "colour": _enhance(grey),
    "contrast": _enhance(_mean_grey),
    "sharpness": _enhance(_smooth),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
