"""Countermeasures that change every image in the same way, whatever the labels: uint8 arrays in, uint8 arrays out.

A hacker applies them to training and test images alike, so that his network sees at test time what it saw in training.
"""

import io
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ugejax.batches import at_a_time
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.natural import from_frequencies, to_frequencies
from ugejax.training import decode

BATCH = 1000
DEVIATION = 0.25  # of a normalised channel, in units of [0, 1]: that of natural images, about


def filtered(images: np.ndarray, *, transform: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """A fixed transform of `ugejax.transforms`, its result rounded to 8 bits."""
    size = at_a_time(images.shape[1:], most=BATCH)
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate([to_uint8(np.asarray(transform(jnp.asarray(decode(part))))) for part in parts])


def jpeg(images: np.ndarray, *, quality: int) -> np.ndarray:
    """JPEG compression and decompression (Liu et al., image shortcut squeezing, ICML 2023)."""
    images = to_uint8(images)
    compressed = np.empty_like(images)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
        compressed[index] = np.asarray(Image.open(file)).reshape(image.shape)
    return compressed


def normalised(images: np.ndarray) -> np.ndarray:
    """Each channel of each image brought to mean 0.5 and standard deviation `DEVIATION`, rounded and clipped.

    It takes brightness, contrast and colour cast of an image away, hence any shift of a class by one colour. A channel
    without variation becomes mid-grey.
    """
    x = decode(images)
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    return to_uint8(0.5 + DEVIATION * centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1 / 255))


def equalised(images: np.ndarray) -> np.ndarray:
    """Histogram equalisation of each channel of each image, exact on 8 bits.

    A value v becomes the share of the pixels that are at most v, stretched so that the least value becomes 0. Gonzalez
    and Woods, Digital Image Processing, section 3.3; OpenCV's `equalizeHist` computes the same. A channel of one value
    stays as it is.
    """
    images = to_uint8(images)
    result = np.empty_like(images)
    for index, channel in np.ndindex(len(images), images.shape[-1]):
        plane = images[index, ..., channel]
        at_most = np.bincount(plane.reshape(-1), minlength=256).cumsum()
        least = at_most[plane.min()]
        stretched = np.arange(256) if least == plane.size else 255 * (at_most - least) / (plane.size - least)
        result[index, ..., channel] = np.clip(np.round(stretched), 0, 255).astype(np.uint8)[plane]
    return result


def low_pass(images: np.ndarray, *, keep: float) -> np.ndarray:
    """The lowest frequencies alone: the first `keep` of the cosine transform's rows and columns, the rest zero.

    With a quarter, 32x32 images keep what 8x8 images hold: waves of at least 8 pixels.
    """
    rows, columns = (max(1, round(keep * side)) for side in images.shape[1:3])
    spectrum = to_frequencies(decode(images))
    spectrum[:, rows:] = 0
    spectrum[:, :, columns:] = 0
    return to_uint8(from_frequencies(spectrum))


def total_variation(images: np.ndarray, *, weight: float, steps: int) -> np.ndarray:
    """Total-variation denoising: the u that minimises |u - x|^2 / 2 + weight * TV(u) over each image.

    Chambolle, "An algorithm for total variation minimization and applications", J. Math. Imaging Vis. 20, 2004:
    the projection algorithm (9) with time step 1/4, for the isotropic total variation of each channel by itself.

    Args:
        images: uint8 [N, H, W, C].
        weight: in units of [0, 1]; the greater the smoother.
        steps: iterations of the projection.
    """
    x = decode(images)
    dual = np.zeros((2, *x.shape), np.float32)
    result = x
    for _ in range(steps):
        gradient = np.zeros_like(dual)
        gradient[0, :, :-1] = np.diff(result, axis=1)
        gradient[1, :, :, :-1] = np.diff(result, axis=2)
        norm = np.sqrt((gradient**2).sum(axis=0))
        dual = (dual - 0.25 * gradient) / (1 + 0.25 / weight * norm)
        divergence = -dual.sum(axis=0)
        divergence[:, 1:] += dual[0, :, :-1]
        divergence[:, :, 1:] += dual[1, :, :, :-1]
        result = x + divergence
    return to_uint8(result)


def non_local_means(images: np.ndarray, *, noise: float) -> np.ndarray:
    """Non-local means denoising: each pixel becomes a mean of those whose surroundings look like its own.

    Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005, with uniform weights within a patch:
    scikit-image's fast mode, at the settings of its example for noise of known strength.

    Args:
        images: uint8 [N, H, W, C].
        noise: standard deviation of the noise to remove, in units of [0, 1].
    """
    from skimage.restoration import denoise_nl_means  # imported late: scikit-image takes a second to load

    settings = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * noise, "sigma": noise, "channel_axis": -1}
    denoised = np.stack([denoise_nl_means(image, **settings) for image in decode(images)])
    return to_uint8(denoised.reshape(images.shape))  # scikit-image drops a single channel
