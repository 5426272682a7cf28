"""JPEG compression and decompression as a differentiable function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.transforms.filters import LUMA
from ugejax.transforms.quantisation import round_cubic, round_straight_through

# ITU-T T.81 (1992), annex K.1: the tables that libjpeg has at quality 50.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA_TABLE = np.full((8, 8), 99)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# JFIF 1.02, section 7: the rows give Y, Cb = (B - Y) / 1.772 and Cr = (R - Y) / 1.402 of red, green and blue.
_Y, (_R, _, _B) = np.array(LUMA), np.eye(3)
_TO_YCBCR = np.array([_Y, (_B - _Y) / 1.772, (_R - _Y) / 1.402], np.float32)
_TO_RGB = np.linalg.inv(_TO_YCBCR)

# T.81, annex A.3.3: row u of the orthonormal cosine transform is C(u) / 2 cos((2 i + 1) u pi / 16), C(0) = 1 / sqrt(2).
_COSINES = np.cos(np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16).astype(np.float32) / 2
_COSINES[0] /= np.sqrt(2)

# Accelerators multiply float32 with some ten bits of precision unless told otherwise: a grey level and more.
_EXACT = jax.lax.Precision.HIGHEST


def quantisation_table(table: np.ndarray, quality: int) -> np.ndarray:
    """A table for quality 50 scaled to a quality of 1 to 100 as libjpeg does it, int [8, 8] in [1, 255]."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((table * percent + 50) // 100, 1, 255)


def jpeg(x: jax.Array, *, quality: int, subsample: bool = True, smooth: bool = False) -> jax.Array:
    """What JPEG leaves of images.

    Follows libjpeg at Pillow's defaults: YCbCr in whole levels; chroma averaged over 2 x 2 pixels; edges repeated up to
    whole blocks of 8 x 8; cosine transform, quantisation and all the way back, chroma interpolated linearly. Values
    differ from libjpeg's where its integer arithmetic rounds a coefficient the other way.

    Straight-through, the values are exact, and the gradient is the identity for luma and a low-pass filter for
    chroma: what quantisation wipes out still gets a gradient. With `smooth`, a coefficient gets less gradient the
    nearer it is to a whole multiple of its quantisation step, those that are wiped out among them.

    Args:
      x: float [..., H, W, C] in [0, 1] with C 1 (luma alone) or 3.
      quality: 1 to 100, in libjpeg's scale.
      subsample: whether chroma is kept at half the resolution (4:2:0) or in full (4:4:4).
      smooth: whether coefficients are rounded by `round_cubic` (Shin and Song, see there) or straight-through.

    Returns:
      Shaped like x, in [0, 1]; not rounded to 8 bits.
    """
    rounding = round_cubic if smooth else round_straight_through
    luma_table, chroma_table = (quantisation_table(table, quality) for table in (LUMA_TABLE, CHROMA_TABLE))
    levels = round_straight_through(255 * x)  # what is compressed has 8 bits
    if x.shape[-1] == 1:
        return _code(levels[..., 0] - 128, luma_table, rounding)[..., None] / 255 + 128 / 255
    height, width = x.shape[-3:-1]
    ycbcr = round_straight_through(jnp.einsum("...c,kc->k...", levels, _TO_YCBCR, precision=_EXACT))
    luma, chroma = ycbcr[:1] - 128, ycbcr[1:]
    if subsample:
        chroma = _half_resolution(chroma)
    luma, chroma = _code(luma, luma_table, rounding), _code(chroma, chroma_table, rounding)
    if subsample:
        *batch, rows, columns = chroma.shape
        chroma = jax.image.resize(chroma, (*batch, 2 * rows, 2 * columns), "linear")[..., :height, :width]
    rgb = jnp.einsum("k...,ck->...c", jnp.concatenate([luma + 128, chroma]), _TO_RGB, precision=_EXACT)
    return jnp.clip(rgb / 255, 0, 1)


def _code(plane: jax.Array, table: np.ndarray, rounding: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A plane [..., H, W] of levels from -128 to 127, transformed in blocks, quantised and transformed back."""
    height, width = plane.shape[-2:]
    padded = _pad(plane, rows=-height % 8, columns=-width % 8)
    blocks = padded.reshape(*plane.shape[:-2], padded.shape[-2] // 8, 8, padded.shape[-1] // 8, 8)
    step = table[:, None, :]
    coefficients = jnp.einsum("...iajb,ua,vb->...iujv", blocks, _COSINES, _COSINES, precision=_EXACT)
    quantised = step * rounding(coefficients / step)
    blocks = jnp.einsum("...iujv,ua,vb->...iajb", quantised, _COSINES, _COSINES, precision=_EXACT)
    return jnp.clip(blocks.reshape(padded.shape)[..., :height, :width], -128, 127)


def _half_resolution(plane: jax.Array) -> jax.Array:
    """Means over 2 x 2 pixels of a plane [..., H, W] in whole levels, edges repeated, as libjpeg takes them.

    To the right it repeats the plane's last column up to whole blocks, below the last row of means. Halves go down and
    up in turn from column to column.
    """
    height, width = plane.shape[-2:]
    padded = _pad(plane, rows=height % 2, columns=-width % 16)
    pairs = padded.reshape(*plane.shape[:-2], padded.shape[-2] // 2, 2, padded.shape[-1] // 2, 2)
    turn = (np.arange(padded.shape[-1] // 2) % 2 - 0.5) / 4
    return round_straight_through(pairs.mean(axis=(-3, -1)) + turn.astype(np.float32))


def _pad(plane: jax.Array, *, rows: int, columns: int) -> jax.Array:
    """The last row and column of a plane [..., H, W] repeated that many times."""
    return jnp.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(0, rows), (0, columns)], mode="edge")
