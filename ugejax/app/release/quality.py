"""How far released images are from their originals: largest change, PSNR and SSIM."""

import dataclasses
import math
from typing import Any

import numpy as np

from ugejax.batches import at_a_time
from ugejax.data.stream import Images, pieces

# Images worked on at a time, or fewer large ones.
_CHUNK = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """Figures per image.

    Attributes:
      linf_levels: largest change of a value, in grey levels, int [N].
      l2: Euclidean norm of the change in units of [0, 1], float64 [N].
      psnr: peak signal-to-noise ratio in dB at a data range of 255, float64 [N]; infinite where nothing changed.
      ssim: mean structural similarity, float64 [N].
    """

    linf_levels: np.ndarray
    l2: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The figures for the card, as strict JSON: PSNR leaves out untouched images and is null where all are."""
        touched = self.psnr[np.isfinite(self.psnr)]
        return {
            "realised_eps": {
                "linf_levels": int(self.linf_levels.max()),
                "linf": int(self.linf_levels.max()) / 255,
                "l2_max": float(self.l2.max()),
            },
            "psnr": {
                "mean": float(touched.mean()) if touched.size else None,
                "min": float(touched.min()) if touched.size else None,
            },
            "ssim": {"mean": float(self.ssim.mean()), "min": float(self.ssim.min())},
            "untouched_images": int(len(self.psnr) - touched.size),
        }


def measure_quality(images: Images, originals: Images, part: slice = slice(None)) -> Quality:
    """Compares released images with their originals.

    SSIM is that of Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), with
    the defaults of scikit-image: uniform 7 x 7 window, sample covariance, K1 = 0.01, K2 = 0.03, borders cut off, mean
    over channels. Images less than 7 pixels wide or high get the largest odd window that fits.

    Args:
      images: uint8 [N, H, W, C].
      originals: uint8 [N, H, W, C].
      part: which of them to compare.

    Raises:
      ValueError: shapes differ or a type is not uint8.
    """
    if images.shape != originals.shape or images.dtype != np.uint8 or originals.dtype != np.uint8:
        raise ValueError(
            f"images and originals must be uint8 of one shape, not {images.dtype} {images.shape} "
            f"and {originals.dtype} {originals.shape}"
        )
    size = at_a_time(images.shape[1:], most=_CHUNK)
    first, end, _ = part.indices(len(images))
    each = [*pieces(end, size, first)] or [slice(0)]
    chunks = [_measure(images[piece], originals[piece]) for piece in each]
    return Quality(*(np.concatenate(figures) for figures in zip(*chunks, strict=True)))


def _measure(images: np.ndarray, originals: np.ndarray) -> tuple[np.ndarray, ...]:
    x, y = images.astype(np.float64), originals.astype(np.float64)
    change = np.abs(x - y).reshape(len(x), math.prod(x.shape[1:]))
    square_sums = (change**2).sum(axis=1)
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255**2 * change.shape[1] / square_sums)
    return change.max(axis=1).astype(np.int64), np.sqrt(square_sums) / 255, psnr, _ssim(x, y)


def _ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = x.shape[1:3]
    window = min(7, height - 1 + height % 2, width - 1 + width % 2)  # odd
    n_pixels = window**2
    to_sample = n_pixels / max(1, n_pixels - 1)

    from scipy import ndimage  # a tenth of the imports of commands, of which some measure nothing

    def local_mean(z: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter1d(ndimage.uniform_filter1d(z, window, axis=1), window, axis=2)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = to_sample * (local_mean(x * x) - mean_x**2)
    variance_y = to_sample * (local_mean(y * y) - mean_y**2)
    covariance = to_sample * (local_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    cut = window // 2
    return similarity[:, cut : height - cut, cut : width - cut].mean(axis=(1, 2, 3))
