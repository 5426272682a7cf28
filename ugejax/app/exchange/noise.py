"""Conversion between noise and protected images."""

import numpy as np

from ugejax.baselines.release import release
from ugejax.data import Splits
from ugejax.errors import UserError


def add_noise(noise: np.ndarray, splits: Splits, where: str) -> np.ndarray:
    """The train images with their noise: added in float, rounded once, clipped once.

    Args:
        noise: in units of [0, 1], float [n, C, H, W], negative as well as positive.
        splits: the originals.
        where: what a message calls the noise.

    Returns:
        uint8 [n, H, W, C].

    Raises:
        UserError: it is not finite, larger than 1 or of another shape.
    """
    originals = splits.train.images
    height, width, channels = originals.shape[1:]
    if noise.shape[1:] != (channels, height, width):
        raise UserError(
            f"{where}: noise of {list(noise.shape[1:])}, but for its originals it would be {[channels, height, width]}"
        )
    finite = np.isfinite(noise).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(f"{where}: the noise of image {int(np.argmin(finite))} is not finite; make it again")
    if (largest := np.abs(noise).max()) > 1:
        raise UserError(f"{where}: noise of up to {largest:g}; it must be in units of [0, 1], 8/255 for 8 levels")
    return release(originals, noise.transpose(0, 2, 3, 1), eps=1.0, norm="none")


def grey_levels(images: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """What images [n, H, W, C] add to their originals, uint8 both, in grey levels: int16 [n, C, H, W]."""
    return (images.astype(np.int16) - originals).transpose(0, 3, 1, 2)


def class_wise(levels: np.ndarray, images: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """One noise a class that gives these images, after clipping, when it is added to the originals.

    Where a released value is neither black nor white the noise is the difference; black and white bound it from one
    side. Of what is possible the least noise is taken.

    Args:
        levels: differences in grey levels, int16 [n, C, H, W].
        images: released, uint8 [n, H, W, C].
        labels: int [n], every class among them.
        n_classes: K.

    Returns:
        int16 [K, C, H, W].

    Raises:
        UserError: there is no such noise.
    """
    released = images.transpose(0, 3, 1, 2)
    lowest, highest = np.where(released > 0, levels, -255), np.where(released < 255, levels, 255)
    noise = np.empty((n_classes, *levels.shape[1:]), np.int16)
    for label in range(n_classes):
        members = labels == label
        low, high = lowest[members].max(axis=0), highest[members].min(axis=0)
        if (low > high).any():
            raise UserError(
                f"the noise of this release is not the same in all images of class {label}; export one noise an image"
            )
        noise[label] = np.clip(0, low, high)
    return noise
