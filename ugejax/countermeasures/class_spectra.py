"""A hacker who gives every class the second-order statistics of natural images, so that these say nothing of a class.

He needs nothing but the release, its labels and natural images; it costs one Fourier transform an image.
"""

from dataclasses import replace

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import TINY
from ugejax.countermeasures.spectrum import ENOUGH
from ugejax.training import decode


def equalise_class_spectra(data: HackerData) -> HackerData:
    """Bring each class's mean power spectrum, and its channels' covariance at every frequency, to that of natural ones.

    At every frequency of the two-dimensional Fourier transform the C coefficients of an image are multiplied by the
    matrix that takes the second moments of the class to those of natural images and moves its images least (see
    `transport`). Moments are about the mean natural image, so that what the images of a class share is brought down
    with the rest. Test images, whose class nobody knows, stay as they are, and so do classes of fewer than `ENOUGH`
    images.
    """
    x, reference = decode(data.images), decode(data.reference)
    mean = reference.mean(axis=0)
    natural = _second_moments(_spectrum(reference - mean))
    images = x.copy()
    for label in np.unique(data.labels):
        own = data.labels == label
        if own.sum() >= ENOUGH:
            spectrum = _spectrum(x[own] - mean)
            matrices = transport(_second_moments(spectrum), natural).astype(np.complex64)
            equalised = np.einsum("hwcd,nhwd->nhwc", matrices, spectrum, optimize=True)
            images[own] = np.fft.irfft2(equalised, s=x.shape[1:3], axes=(1, 2), norm="ortho") + mean
    return replace(data, images=images)


def transport(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The positive matrix T with T A T = B of covariances A and B: of all linear maps from A to B it moves least.

    T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2); Olkin and Pukelsheim, "The distance between two random vectors with
    given dispersion matrices", Linear Algebra and its Applications 48, 1982.

    Args:
        ours: A, Hermitian and positive [..., C, C].
        theirs: B, likewise.

    Returns:
        [..., C, C].
    """
    root, inverse = _power(ours, 0.5), _power(ours, -0.5)
    return inverse @ _power(root @ theirs @ root, 0.5) @ inverse


def _power(matrices: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrices)
    return vectors * np.maximum(values, TINY**2)[..., None, :] ** exponent @ vectors.conj().swapaxes(-1, -2)


def _spectrum(x: np.ndarray) -> np.ndarray:
    return np.fft.rfft2(x, axes=(1, 2), norm="ortho").astype(np.complex64)


def _second_moments(spectrum: np.ndarray) -> np.ndarray:
    """Mean products of the channels at each frequency of [N, H, W', C], complex128 [H, W', C, C]."""
    products = np.einsum("nhwc,nhwd->hwcd", spectrum, spectrum.conj(), optimize=True) / len(spectrum)
    return products + TINY * np.eye(spectrum.shape[-1])
