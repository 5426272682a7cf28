"""Counter-measures that change the images once, before training: arrays in, arrays out.

Images are uint8 [N, H, W, C] throughout. The same function is applied to the clean test images, as a hacker would do
who wants his network to see at test time what it saw in training.
"""

import io

import numpy as np
from PIL import Image

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in Pillow's "L" and in image shortcut squeezing


def grey(images: np.ndarray) -> np.ndarray:
    """Colour removed; the number of channels stays. Grey images stay as they are."""
    if images.shape[-1] == 1:
        return images
    return np.repeat(np.round(images @ LUMA).astype(np.uint8)[..., None], 3, axis=-1)


def bit_depth(images: np.ndarray, *, bits: int) -> np.ndarray:
    """Bit-depth reduction to 2^bits levels, evenly spaced over 0 .. 255 (Xu et al., feature squeezing, 2018)."""
    steps = 2**bits - 1
    return np.round(np.round(images / 255 * steps) / steps * 255).astype(np.uint8)


def jpeg(images: np.ndarray, *, quality: int) -> np.ndarray:
    """JPEG compression and decompression (Liu et al., image shortcut squeezing, ICML 2023)."""
    compressed = np.empty_like(images)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality)
        compressed[index] = np.asarray(Image.open(file)).reshape(image.shape)
    return compressed


def blur(images: np.ndarray) -> np.ndarray:
    """Binomial blur (1, 2, 1) / 4 along rows and columns, edges repeated: a Gaussian of about 0.7 pixels."""
    x = images.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode="edge")
        size = images.shape[axis]
        low, mid, high = (np.take(padded, np.arange(k, k + size), axis=axis) for k in range(3))
        x = (low + 2 * mid + high) / 4
    return np.round(x).astype(np.uint8)
