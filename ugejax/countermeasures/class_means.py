"""A hacker who subtracts what the images of a class have in common and natural images of a class have not.

He knows that the perturbation is a texture of its class, and what natural images look like, but not the key.
"""

from dataclasses import replace

import numpy as np
from scipy.fft import dct

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import Natural, half_waves, natural_statistics
from ugejax.training import decode

TEXTURE = 6 / 255  # standard deviation that the hacker expects of a texture: most of the usual budget of 8/255
SMOOTH = 4  # half waves across the image up to which the mean of a class may differ from that of all images


def subtract_class_textures(data: HackerData) -> HackerData:
    """Subtract from every training image the texture of its class; test images stay as they are."""
    x = decode(data.images)
    _, inverse = np.unique(data.labels, return_inverse=True)
    textures = class_textures(x, data.labels, natural_statistics(decode(data.reference)))
    return replace(data, images=x - textures.astype(np.float32)[inverse.reshape(-1)])


def subtract_known_textures(data: HackerData) -> HackerData:
    """Subtract from every training image the mean difference of its class from the originals, all of which he holds.

    No hacker has them; what is left is a bound for all who subtract one texture a class.
    """
    x, differences = decode(data.images), np.empty(data.images.shape, np.float32)
    differences[data.clean_indices] = x[data.clean_indices] - decode(data.clean_images)
    classes, inverse = np.unique(data.labels, return_inverse=True)
    textures = np.stack([differences[data.labels == label].mean(axis=0) for label in classes])
    return replace(data, images=x - textures[inverse.reshape(-1)])


def class_textures(x: np.ndarray, labels: np.ndarray, natural: Natural) -> np.ndarray:
    """What the mean image of each class holds that is not natural.

    1. The posterior mean of a texture that is constant on blocks of 2x2 pixels, prior N(0, TEXTURE^2), behind the
       natural deviation of the class's mean: the edges of blocks show at high frequencies, where natural means do not
       vary, and give away what the blocks hold at low ones.
    2. Of the rest, everything but the lowest frequencies: natural images of a class share little but broad areas of
       colour. At those lowest ones too, what exceeds a standard deviation of single images.

    Args:
        x: float [N, H, W, C] in units of [0, 1].
        labels: int [N].
        natural: statistics of natural images of the kind.

    Returns:
        float [K, H, W, C], in the order of the labels that occur.
    """
    members = [x[labels == label] for label in np.unique(labels)]
    means = np.stack([natural.spectrum(images.mean(axis=0, keepdims=True))[0] for images in members])
    waves = half_waves(means.shape[1:])
    # How far natural class means stray, in standard deviations of single images, measured on CIFAR-10's originals:
    # 0.37, 0.18, 0.17, 0.1, 0.12, 0.06 and 0.05 at 0, 1, 2, 3, 4, 8 and 12 half waves, sampling included.
    counts, blocks = np.array([len(images) for images in members]), np.empty_like(means)
    for count in np.unique(counts):
        between = (0.4 / (1 + waves / 1.5)) ** 2 + 1 / count
        blocks[counts == count] = _blocky_part(means[counts == count], between * natural.variance)
    rest = means - blocks
    natural_rest = (waves <= SMOOTH) & (np.abs(rest) <= np.sqrt(natural.variance))
    return natural.deviation(blocks + np.where(natural_rest, 0, rest))


def _blocky_part(spectra: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Posterior mean of a texture T in spectra = T + D: T constant on 2x2 blocks, D ~ N(0, variance) by frequency.

    Being constant on pairs of pixels couples each frequency a with its alias H - a and no other, so that the
    covariance of T falls into 4x4 matrices. Images with an odd side do not divide into blocks: no texture.

    Args:
        spectra: [K, H, W, C].
        variance: [H, W, C].
    """
    size, (h, w, channels) = len(spectra), spectra.shape[1:]
    if h % 2 or w % 2:
        return np.zeros_like(spectra)
    (rows, row_blocks), (columns, column_blocks) = _pairs(h), _pairs(w)
    # The prior covariance on the aliases of a row index and of a column index, together: [H/2, W/2, 4, 4].
    prior = np.einsum("apq,brs->abprqs", row_blocks, column_blocks).reshape(h // 2, w // 2, 4, 4) * TEXTURE**2
    at = rows[:, None, :, None], columns[None, :, None, :]
    seen = spectra[:, *at].reshape(size, h // 2, w // 2, 4, channels)
    noise = variance[at].reshape(h // 2, w // 2, 4, channels)
    texture = np.empty_like(spectra)
    for channel in range(channels):
        total = prior + noise[..., None, channel] * np.eye(4)
        posterior = prior @ np.linalg.solve(total, np.moveaxis(seen[..., channel], 0, -1))
        texture[..., channel][:, *at] = np.moveaxis(posterior, -1, 0).reshape(size, h // 2, w // 2, 2, 2)
    return texture


def _pairs(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of aliases [side/2, 2], and on each the covariance [side/2, 2, 2] of noise constant on pairs of pixels."""
    low = np.arange(side // 2)
    index = np.stack([low, np.where(low == 0, side // 2, side - low)], axis=1)
    cosines = np.asarray(dct(np.eye(side), axis=0, norm="ortho"))
    covariance = cosines @ np.kron(np.eye(side // 2), np.ones((2, 2))) @ cosines.T
    return index, covariance[index[:, :, None], index[:, None, :]]
