"""What the tests of the baselines share: images.

The tests use the same shapes and settings where they can, so that most programs are compiled once in a session.
"""

import functools

import numpy as np
from sklearn.datasets import load_digits

N, CLASSES, BATCH = 120, 10, 40


@functools.cache
def digits(*, darkest: int, brightest: int) -> tuple[np.ndarray, np.ndarray]:
    """Real digits, uint8 [120, 8, 8, 1] in that range of grey levels, and their labels, int32 [120]."""
    data = load_digits()
    images = np.round(darkest + (brightest - darkest) * data.images[:N] / 16).astype(np.uint8)[..., None]
    return images, data.target[:N].astype(np.int32)
