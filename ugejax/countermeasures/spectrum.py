"""A hacker who compares power spectra: periodic perturbations stand out of those of natural images as lines."""

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import natural_statistics
from ugejax.training import decode

# Classes of CIFAR-10's originals have up to 2.6 times the power of all images at some frequency.
EXCESS = 3.0
# Of fewer images the mean power of a frequency exceeds that by chance, in originals too.
ENOUGH = 50


def notch(data: HackerData) -> HackerData:
    """Remove every frequency at which a class of the release has several times the power of natural images.

    Frequencies are those of the two-dimensional Fourier transform in the principal colours of natural images, so a
    texture is found at whatever place and phase it lies. White noise is allowed for. Training and test images lose the
    same frequencies. Classes of fewer than 50 images tell nothing and are not asked.
    """
    x, reference = decode(data.images), decode(data.reference)
    natural = natural_statistics(reference)

    def spectrum(images: np.ndarray) -> np.ndarray:
        return np.fft.rfft2((images - natural.mean) @ natural.colours, axes=(1, 2), norm="ortho")

    expected = (np.abs(spectrum(reference)) ** 2).mean(axis=0) + natural.white_noise(x)
    labels, counts = np.unique(data.labels, return_counts=True)
    classes = [x[data.labels == label] for label in labels[counts >= ENOUGH]]
    found = [(np.abs(spectrum(images)) ** 2).mean(axis=0) for images in classes]
    kept = np.all([power / expected < EXCESS for power in found], axis=0)  # without classes: all

    def without_lines(images: np.ndarray) -> np.ndarray:
        images = decode(images)
        passed = np.fft.irfft2(spectrum(images) * kept, s=images.shape[1:3], axes=(1, 2), norm="ortho")
        return (passed @ natural.colours.T + natural.mean).astype(np.float32)

    return data.with_all_images(without_lines)
