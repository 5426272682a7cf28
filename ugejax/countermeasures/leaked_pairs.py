"""A hacker who holds some originals beside what was released for them, and undoes the rest as these teach him."""

from dataclasses import replace

import numpy as np

from ugejax.countermeasures.clean_share import mix_in
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.training import decode

SIDE = 5  # pixels of a filter
PENALTY = 1e-4  # on its weights, for each equation, in units of [0, 1]^2: a fifteenth of a texture's variance


def undo_by_pairs(data: HackerData) -> HackerData:
    """Restore every training image by what the leaked pairs show of its class; test images stay as they are.

    For each class by itself: the mean difference of its pairs is subtracted, as far as it exceeds what a mean of so few
    differences holds by chance, and a least-squares filter takes what is left of the difference out of the image. The
    leaked originals themselves stand in place of their released versions. Every class has a pair; one that has none is
    restored by those of all.
    """
    released, originals = decode(data.images[data.clean_indices]), decode(data.clean_images)
    images, restored = decode(data.images), np.empty(data.images.shape, np.float32)
    noise = _variance_within(released - originals, data.clean_labels)
    for label in np.unique(data.labels):
        pairs = data.clean_labels == label
        if not pairs.any():
            pairs = np.ones(len(originals), bool)
        texture = _texture(released[pairs] - originals[pairs], noise)
        kernel, offset = restoring_filter(released[pairs] - texture, originals[pairs])
        flat = images[data.labels == label] - texture
        restored[data.labels == label] = np.clip(flat + _filtered(flat, kernel) + offset, 0, 1)
    return mix_in(replace(data, images=restored))


def _variance_within(differences: np.ndarray, labels: np.ndarray) -> float:
    """Mean square by which the differences of a class stray about their mean; 0 where no class has two of them."""
    squares, free = 0.0, 0
    for label in np.unique(labels):
        own = differences[labels == label]
        squares += float(np.square(own - own.mean(axis=0)).sum())
        free += (len(own) - 1) * own[0].size
    return squares / free if free else 0.0


def _texture(differences: np.ndarray, noise: float) -> np.ndarray:
    """Mean of differences [n, H, W, C], shrunk by the share of its energy that chance explains (James and Stein)."""
    mean = differences.mean(axis=0)
    energy = float(np.square(mean).mean())
    return mean * np.float32(max(0.0, 1 - noise / len(differences) / energy) if energy else 0.0)


def restoring_filter(degraded: np.ndarray, originals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The filter whose answer comes nearest to originals - degraded, by ridge regression.

    Args:
        degraded: float32 [n, H, W, C].
        originals: likewise.

    Returns:
        float32 [SIDE SIDE C, C], the filter, and float32 [C], its offset. Both are zero of equal images.
    """
    channels = degraded.shape[-1]
    size = SIDE * SIDE * channels
    gram, right = np.zeros((size + 1, size + 1)), np.zeros((size + 1, channels))
    for image, original in zip(degraded, originals, strict=True):  # one at a time: all patches of 500 are 150 MB
        cut = np.concatenate([_patches(image), np.ones((image[..., 0].size, 1))], axis=1)
        gram += cut.T @ cut
        right += cut.T @ (original - image).reshape(-1, channels)
    penalty = PENALTY * gram[-1, -1] * np.eye(size + 1)
    penalty[-1, -1] = 0  # the offset is free
    found = np.linalg.solve(gram + penalty, right).astype(np.float32)
    return found[:-1], found[-1]


def _filtered(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.stack([(_patches(image) @ kernel).reshape(image.shape) for image in images])


def _patches(image: np.ndarray) -> np.ndarray:
    """The surroundings of each pixel of an image [H, W, C], the edge repeated, less 0.5: [H W, SIDE SIDE C]."""
    around = SIDE // 2
    padded = np.pad(image - 0.5, ((around, around), (around, around), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(0, 1))
    return np.moveaxis(windows, 2, -1).reshape(image[..., 0].size, -1)
