"""OPS: one-pixel shortcut, in every image of a class the same pixel set to the same extreme colour.

Wu et al., One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks, ICLR 2023 (arXiv 2205.12141):
the position sigma and colour xi in {0, 1}^C of class k maximise

    G(sigma, xi) = E_{x in D_k} |x_sigma - xi| / Std_{x in D_k} |x_sigma - xi|

with mean and standard deviation over images and channels, as in the published code, and no pair used by two classes.
Not bound by a radius: one pixel may change by all there is.
"""

import itertools

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod, NoSettings
from ugejax.errors import UserError
from ugejax.reporting import Report

# Where a pixel is the same in a whole class its deviation is 0; among such pixels the larger change wins.
TINY = 1e-6


def scores(images: np.ndarray) -> np.ndarray:
    """G of every position and extreme colour, float64 [H, W, 2^C], for the images of one class, uint8 [N, H, W, C].

    The colours are in the order of `itertools.product((0, 1), repeat=C)`.
    """
    channels = images.shape[3]
    mean, square = np.zeros((2, *images.shape[1:])), np.zeros((2, *images.shape[1:]))  # of |x - 0| and |x - 1|
    for value, x in ((0, images), (1, 255 - images)):
        mean[value] = x.mean(axis=0, dtype=np.float64) / 255
        square[value] = np.square(x, dtype=np.float64).mean(axis=0) / 255**2
    result = []
    for colour in itertools.product((0, 1), repeat=channels):
        m = np.mean([mean[value, ..., c] for c, value in enumerate(colour)], axis=0)
        s = np.mean([square[value, ..., c] for c, value in enumerate(colour)], axis=0)
        result.append(m / (np.sqrt(np.maximum(s - m**2, 0)) + TINY))
    return np.stack(result, axis=-1)


def one_pixel_shortcut(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: NoSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """OPS; see `Baseline`. It follows from images and labels alone: the key changes nothing.

    Raises:
        UserError: there are fewer pairs of pixel and colour than classes.
    """
    height, width, channels = images.shape[1:]
    if height * width * 2**channels < num_classes:
        raise UserError(f"ops: {height}x{width} images have too few pixels for {num_classes} classes")
    released, taken = images.copy(), []
    colours = np.array(list(itertools.product((0, 255), repeat=channels)), np.uint8)
    for k in range(num_classes):
        members = labels == k
        if not members.any():
            continue
        score = scores(images[members])
        for pair in taken:
            score[pair] = -1
        row, column, colour = np.unravel_index(int(score.argmax()), score.shape)
        taken.append((row, column, colour))
        released[members, row, column] = colours[colour]
        report("pixel search", k + 1, num_classes, {"score": float(score[row, column, colour])})
    return released


OPS = BaselineMethod(
    run=one_pixel_shortcut,
    settings=NoSettings(),
    summary="one-pixel shortcut (Wu et al. 2023)",
    norm="none",
    eps=None,
    surrogates=False,
)
