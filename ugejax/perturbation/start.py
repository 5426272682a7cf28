"""Where the perturbation starts: class-wise tensors that are learned before anything else, before any optimisation."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment


def class_textures(
    key: jax.Array, num_classes: int, shape: tuple[int, int, int], *, amplitude: float, block: int, tile: int
) -> jax.Array:
    """One random texture per class: blocks of random sign, repeated with a period, each tile its own mirror image.

    Class-wise noise in blocks is linearly separable and hence learned first (Yu et al., "Availability attacks create
    shortcuts", KDD 2022, LSP); the block sets its frequency. The period and the symmetry, our choice, leave it the same
    under random crops, up to a shift within a tile, and under flips.

    Args:
        key: PRNG key.
        num_classes: number of textures.
        shape: (H, W, C).
        amplitude: absolute value of every element, in units of [0, 1].
        block: side of a block in pixels.
        tile: period in pixels.

    Returns:
        float32 [num_classes, H, W, C].
    """
    h, w, c = shape
    blocks = -(-tile // block)
    signs = jax.random.rademacher(key, (num_classes, blocks, blocks, c), jnp.float32)
    pattern = signs.repeat(block, axis=1).repeat(block, axis=2)[:, :tile, :tile]
    half = tile // 2
    pattern = jnp.concatenate([pattern[:, :, : tile - half], pattern[:, :, :half][:, :, ::-1]], axis=2)
    return amplitude * jnp.tile(pattern, (1, -(-h // tile), -(-w // tile), 1))[:, :h, :w]


def class_means(images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean image of each class, float64 [num_classes, H, W, C] in [0, 1], of uint8 images [N, H, W, C]."""
    return np.stack([images[labels == label].mean(axis=0, dtype=np.float64) / 255 for label in range(num_classes)])


def nearest_wrong_class(means: np.ndarray) -> np.ndarray:
    """A wrong class for each class, int32 [K]: the permutation without fixed point that moves the class means least.

    The nearest wrong class is the one that a limited budget comes furthest towards.
    """
    flat = means.reshape(len(means), -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    distances[np.diag_indices(len(flat))] = distances.sum() + 1  # more than any permutation without it
    return linear_sum_assignment(distances)[1].astype(np.int32)


def misaligned_means(means: np.ndarray, wrong: np.ndarray, *, amplitude: float) -> jax.Array:
    """Class-wise noise that pushes every class's mean image towards that of its wrong class, in pixel space.

    amplitude * sign(m_wrong(y) - m_y), float32 [K, H, W, C]: the misalignment of the feature distance (design of the
    paper) for the simplest feature space, the pixels. What a network then takes for class y looks like the wrong class.
    """
    return jnp.asarray(amplitude * np.sign(means[wrong] - means), jnp.float32)
