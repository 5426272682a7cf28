"""What natural images of a kind look like: their spectrum, learned from images without labels."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn

TINY = 1e-6  # variance in units of [0, 1]^2, a fifteenth of what rounding to 8 bits adds


def to_frequencies(x: np.ndarray) -> np.ndarray:
    """The orthonormal cosine transform of images [N, H, W, C] along both axes."""
    return np.asarray(dctn(x, axes=(1, 2), norm="ortho"))


def from_frequencies(spectrum: np.ndarray) -> np.ndarray:
    """The inverse of `to_frequencies`."""
    return np.asarray(idctn(spectrum, axes=(1, 2), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Natural:
    """The mean, the colours and the variance of every frequency of natural images.

    A frequency is a coefficient (a, b) of the cosine transform: a and b half waves across the image. Natural images
    vary little where a and b are large, and in opponent colours.

    Attributes:
        mean: [H, W, C], units of [0, 1].
        colours: orthonormal [C, C]; its columns are the principal directions of colour.
        variance: [H, W, C], of the spectrum.
    """

    mean: np.ndarray
    colours: np.ndarray
    variance: np.ndarray

    def spectrum(self, x: np.ndarray) -> np.ndarray:
        """Spectrum [N, H, W, C] of images x less the mean, in the principal colours."""
        return to_frequencies((x - self.mean) @ self.colours)

    def deviation(self, spectrum: np.ndarray) -> np.ndarray:
        """The inverse of `spectrum`: images less the mean."""
        return from_frequencies(spectrum) @ self.colours.T

    def white_noise(self, x: np.ndarray) -> float:
        """Variance of the white noise that images x hold beyond the natural ones.

        The median excess over the frequencies: noise that is the same at all of them moves it, a pattern that sits in
        less than half of them does not.
        """
        return max(0.0, float(np.median(self.spectrum(x).var(axis=0) - self.variance)))

    def residual(self, x: np.ndarray) -> np.ndarray:
        """What of images x, float32 [N, H, W, C], is most likely white noise: the rest is them denoised.

        A Wiener filter, by the variance that `white_noise` measures; of natural images next to nothing is left.
        """
        noise = self.white_noise(x)
        return self.deviation(self.spectrum(x) * (noise / (self.variance + noise))).astype(np.float32)


def half_waves(shape: tuple[int, ...]) -> np.ndarray:
    """The larger of a and b for each frequency (a, b) of images of shape (H, W, C), int [H, W, 1]."""
    return np.maximum(*np.indices(shape[:2]))[..., None]


def natural_statistics(reference: np.ndarray) -> Natural:
    """The statistics of natural images, float32 [R, H, W, C] in [0, 1]."""
    mean = reference.mean(axis=0)
    centred = reference - mean
    channels = centred.shape[-1]
    flat = centred.reshape(-1, channels)
    colours = np.linalg.eigh(flat.T @ flat)[1].astype(np.float32)
    variance = to_frequencies(centred @ colours).var(axis=0) + TINY
    return Natural(mean, colours, variance)
