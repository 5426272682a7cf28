"""Starts of the perturbation: class-wise tensors, such as stripes, that networks learn before anything else."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.data.stream import Images, pieces
from ugejax.errors import UserError
from ugejax.views.derive import Keystream

# Frequencies of the stripes as parts of the middle one, and the longest middle period as a part of an image's side.
FREQUENCIES = (1 / 2, 3 / 4, 1, 5 / 4, 3 / 2)
LONGEST = 7 / 16


def class_stripes(
    secret: bytes, num_classes: int, shape: tuple[int, int, int], *, amplitude: float, period: int
) -> jax.Array:
    """Stripes for each class: a square wave of yellow against blue, along the rows or the columns.

    Class-wise noise that is linearly separable is learned first (Yu et al., "Availability attacks create shortcuts",
    KDD 2022, LSP). This kind, our choice, stays so under random crops and flips, and harms perceptrons as well as
    convolutions: a wave is its own mirror image, and no class is another at another phase. Blue moves against red and
    green, as it seldom does in natural images, and their luminance moves all the same, of which JPEG keeps most.
    That gives 10 codes (2 directions, 5 periods). With more classes than codes the image is divided into bands of
    rows, and a class has a word of codes.

    Args:
        secret: deals the words to the classes. The words themselves are known to everybody: with ten classes or fewer
            an image shows its own.
        num_classes: K.
        shape: (H, W, C); with other than three channels all of them move together.
        amplitude: absolute value of every element, in units of [0, 1].
        period: in pixels, of the wave in the middle; the others have 1/2, 3/4, 5/4 and 3/2 of its frequency. On images
            of which it is more than 7/16 of a side, that is the period.

    Returns:
        float32 [num_classes, H, W, C].

    Raises:
        UserError: the image is too small for so many classes to differ.
    """
    alphabets, colour = stripe_codes(num_classes, shape, period=period)
    order = Keystream(secret, "stripes").permutation(math.prod(map(len, alphabets)))
    dealt = np.unravel_index(order[:num_classes], [len(letters) for letters in alphabets])
    signs = np.concatenate([letters[codes] for letters, codes in zip(alphabets, dealt, strict=True)], axis=1)
    return jnp.asarray(np.float32(amplitude) * (signs[..., None] * colour))


def stripe_codes(num_classes: int, shape: tuple[int, int, int], *, period: int) -> tuple[list[np.ndarray], np.ndarray]:
    """What everybody can know of `class_stripes`, whose arguments these are: all of it but which class has which word.

    Returns:
        For each band of rows, from the top, its codes, int8 [A, rows, W] of signs, and the sign of each channel,
        int8 [C]. A word is a code for each band.

    Raises:
        UserError: the image is too small for so many classes to differ.
    """
    h, w, channels = shape
    colour = np.array([1, 1, -1] if channels == 3 else [1] * channels, np.int8)
    frequencies = np.array(FREQUENCIES) / min(period, LONGEST * h, LONGEST * w)
    down, across = _square_waves(h, frequencies)[:, :, None], _square_waves(w, frequencies)[:, None, :]
    # One byte a sign: a code for each of a thousand classes of photographs is large enough in float32.
    bank = np.concatenate([np.broadcast_to(waves, (len(frequencies), h, w)) for waves in (down, across)])
    for bands in range(1, h + 1):
        # In a band of few rows two waves may be one.
        alphabets = [_distinct(part) for part in np.array_split(bank, bands, axis=1)]
        if math.prod(map(len, alphabets)) >= num_classes:
            return alphabets, colour
    raise UserError(
        f"images of {h}x{w} are too small for {num_classes} classes to differ; give larger ones or `start` misaligned",
        argument="start",
        value="stripes",
    )


def _distinct(codes: np.ndarray) -> np.ndarray:
    """`np.unique(codes, axis=0)` of signs int8 [A, rows, W], which for photographs takes minutes and gigabytes."""
    first = {(code.view(np.uint8) ^ 0x80).tobytes(): code for code in np.ascontiguousarray(codes)}  # -1 before 1
    return np.stack([first[key] for key in sorted(first)])


def _square_waves(size: int, frequencies: np.ndarray) -> np.ndarray:
    """Signs of cosines about the middle of `size` pixels, hence mirror-symmetric; frequencies in cycles a pixel."""
    phases = 2 * np.pi * np.outer(frequencies, np.arange(size) - (size - 1) / 2)
    return np.where(np.cos(phases) > -1e-9, 1, -1).astype(np.int8)


def class_means(images: Images, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean image of each class.

    Args:
        images: uint8 [N, H, W, C].
        labels: int [N] in [0, num_classes).
        num_classes: K.

    Returns:
        float64 [K, H, W, C] in [0, 1]. A class without images, which a client's share of a data set may have, gets the
        mean of all images.
    """
    sums = np.zeros((num_classes, *images.shape[1:]))
    for part in pieces(len(images), of=images.shape[1:]):
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
    # Imported late: the default release asks for none of it.
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    flat = means.reshape(len(means), -1)
    distances = cdist(flat, flat)
    distances[np.diag_indices(len(flat))] = distances.sum() + 1  # more than any permutation without it
    return linear_sum_assignment(distances)[1].astype(np.int32)


def misaligned_means(means: np.ndarray, wrong: np.ndarray, *, amplitude: float) -> jax.Array:
    """Class-wise noise that pushes every class's mean image towards that of its wrong class, in pixel space.

    amplitude * sign(m_wrong(y) - m_y): the misalignment of the feature distance (design of the paper) for the simplest
    feature space, the pixels. What a network then takes for class y looks like the wrong class.

    Args:
        means: of the classes, float [K, H, W, C] in [0, 1], see `class_means`.
        wrong: int [K], a wrong class for each class, see `nearest_wrong_class`.
        amplitude: of every element, in units of [0, 1].

    Returns:
        float32 [K, H, W, C].
    """
    return jnp.asarray(amplitude * np.sign(means[wrong] - means), jnp.float32)


def _stripes(secret, images, labels, num_classes, *, amplitude, period):
    h, w, c = images.shape[1:]
    return class_stripes(secret, num_classes, (h, w, c), amplitude=amplitude, period=period)


def _misaligned(secret, images, labels, num_classes, *, amplitude, period):
    means = class_means(images, labels, num_classes)
    return misaligned_means(means, nearest_wrong_class(means), amplitude=amplitude)


# By the names that `Method.start` takes: (secret, images uint8 [N, H, W, C], labels int32 [N], num_classes, amplitude=,
# period=) -> float32 [num_classes, H, W, C].
STARTS: dict[str, Callable[..., jax.Array]] = {"stripes": _stripes, "misaligned": _misaligned}
