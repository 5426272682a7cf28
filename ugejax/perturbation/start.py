"""Where the perturbation starts: class-wise tensors that are learned before anything else, before any optimisation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ugejax.data.stream import Images, pieces


def class_stripes(
    key: jax.Array, num_classes: int, shape: tuple[int, int, int], *, amplitude: float, period: int
) -> jax.Array:
    """Stripes for each class: a square wave along the rows or the columns, of one direction of colour.

    Class-wise noise that is linearly separable is learned first (Yu et al., "Availability attacks create shortcuts",
    KDD 2022, LSP). This kind, our choice, stays so under random crops and flips, and harms perceptrons as well as
    convolutions: a wave is its own mirror image, a shift changes its phase alone, and it is made of opponent colours,
    in which natural images vary little: every sum of signs of red, green and blue but black and white. That gives
    12 codes (2 of orientation, 6 of colour; of a grey image's one channel 4, by its sign). With more classes than
    codes the image is divided into bands of rows, and a class has a word of codes.

    Args:
        key: PRNG key; deals the words to the classes.
        num_classes: K.
        shape: (H, W, C).
        amplitude: absolute value of every element, in units of [0, 1].
        period: of the wave in pixels.

    Returns:
        float32 [num_classes, H, W, C].
    """
    h, w, channels = shape
    # One byte a sign: a code for each of a thousand classes of photographs is large enough in float32.
    signs = np.array(list(itertools.product((1, -1), repeat=channels)), np.int8)
    colours = signs if channels == 1 else signs[abs(signs.sum(axis=1)) < channels]
    codes = 2 * len(colours)
    bands = next(bands for bands in itertools.count(1) if codes**bands >= num_classes)
    words = np.asarray(jax.random.permutation(key, codes**bands)[:num_classes])
    digits = words[:, None] // codes ** np.arange(bands) % codes
    horizontal = _square_wave(h, period)[:, None, None] * colours[:, None, None, :]
    vertical = _square_wave(w, period)[None, :, None] * colours[:, None, None, :]
    bank = np.concatenate(
        [np.broadcast_to(stripes, (len(colours), h, w, channels)) for stripes in (horizontal, vertical)]
    )
    rows = np.arange(h)
    band = rows * bands // h
    return jnp.asarray(np.float32(amplitude) * bank[digits[:, band], rows])


def _square_wave(size: int, period: int) -> np.ndarray:
    """Signs of a cosine about the middle of `size` pixels, hence mirror-symmetric."""
    phase = 2 * np.pi * (np.arange(size) - (size - 1) / 2) / period
    return np.where(np.cos(phase) > -1e-9, 1, -1).astype(np.int8)


def class_means(images: Images, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean image of each class, float64 [num_classes, H, W, C] in [0, 1], of uint8 images [N, H, W, C].

    A class without images, which a client's share of a data set may have, gets the mean of all images.
    """
    sums = np.zeros((num_classes, *images.shape[1:]))
    for part in pieces(len(images)):
        x, y = images[part], labels[part]
        for label in np.unique(y):
            sums[label] += x[y == label].sum(axis=0)  # whole numbers, hence exact in any order
    counts = np.bincount(labels, minlength=num_classes)
    sums[counts == 0], counts[counts == 0] = sums.sum(axis=0), len(images)
    return sums / counts.reshape(-1, 1, 1, 1) / 255


def nearest_wrong_class(means: np.ndarray) -> np.ndarray:
    """A wrong class for each class, int32 [K]: the permutation without fixed point that moves the class means least.

    The nearest wrong class is the one that a limited budget comes furthest towards.
    """
    flat = means.reshape(len(means), -1)
    distances = cdist(flat, flat)
    distances[np.diag_indices(len(flat))] = distances.sum() + 1  # more than any permutation without it
    return linear_sum_assignment(distances)[1].astype(np.int32)


def misaligned_means(means: np.ndarray, wrong: np.ndarray, *, amplitude: float) -> jax.Array:
    """Class-wise noise that pushes every class's mean image towards that of its wrong class, in pixel space.

    amplitude * sign(m_wrong(y) - m_y), float32 [K, H, W, C]: the misalignment of the feature distance (design of the
    paper) for the simplest feature space, the pixels. What a network then takes for class y looks like the wrong class.
    """
    return jnp.asarray(amplitude * np.sign(means[wrong] - means), jnp.float32)
