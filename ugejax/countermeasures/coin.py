"""A hacker who moves every pixel of his training images a little, each in a direction of its own."""

from dataclasses import replace

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.training import decode

FARTHEST = 2.0  # pixels along each axis: the paper's alpha
BATCH = 1000


def move_pixels(data: HackerData) -> HackerData:
    """Take every pixel of every training image from a random place near by; test images stay as they are.

    Li et al., "Detecting and Corrupting Convolution-based Unlearnable Examples", AAAI 2025 (arXiv 2311.18403), COIN: a
    random matrix for each image, of bilinear interpolation at displacements that are uniform in [-alpha, alpha] along
    both axes, breaks what a filter of a class did to its images. Places beyond the edge are taken from the edge, which
    is our choice. Their detector, which tells whether a set needs it, was not taken over.

    The displacements are drawn once, from the seed.
    """
    rng, count = np.random.default_rng(data.seed), len(data.images)
    parts = [moved(rng, decode(data.images[start : start + BATCH])) for start in range(0, count, BATCH)]
    return replace(data, images=np.concatenate(parts))


def moved(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Images float32 [N, H, W, C], each pixel interpolated at its place plus a displacement that is drawn."""
    n, h, w, _ = x.shape
    rows, columns = rng.uniform(-FARTHEST, FARTHEST, (2, n, h, w)).astype(np.float32)
    rows = np.clip(rows + np.arange(h, dtype=np.float32)[:, None], 0, h - 1)
    columns = np.clip(columns + np.arange(w, dtype=np.float32), 0, w - 1)
    top, left = rows.astype(int), columns.astype(int)
    down, right = ((places % 1)[..., None] for places in (rows, columns))
    bottom, beside, image = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1), np.arange(n)[:, None, None]
    upper = x[image, top, left] * (1 - right) + x[image, top, beside] * right
    lower = x[image, bottom, left] * (1 - right) + x[image, bottom, beside] * right
    return upper * (1 - down) + lower * down
