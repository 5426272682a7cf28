"""CUDA: convolution-based unlearnable dataset, every class blurred by a kernel of its own.

Sadasivan, Soltanolkotabi, Feizi, CUDA: Convolution-based Unlearnable Datasets, CVPR 2023 (arXiv 2303.04278):
a k x k filter of class y, entries U(0, p_b) and one of them, anywhere, set to 1, is applied to every channel with zero
padding, and the image is divided by its largest value. Not bound by a radius. As in the code of convolutional networks,
"convolution" does not flip the kernel.
"""

from dataclasses import dataclass

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.release import release
from ugejax.errors import UserError
from ugejax.reporting import Report


@dataclass(frozen=True)
class CudaSettings:
    """Settings of CUDA; the defaults are the paper's for CIFAR.

    Attributes:
        blur: p_b.
        kernel_size: k, odd.
    """

    blur: float = 0.3
    kernel_size: int = 3


def class_kernels(key: jax.Array, num_classes: int, settings: CudaSettings) -> np.ndarray:
    """One filter per class, float32 [K, k, k]."""
    side, (blur_key, place_key) = settings.kernel_size, jax.random.split(key)
    kernels = np.array(jax.random.uniform(blur_key, (num_classes, side * side), maxval=settings.blur))
    kernels[np.arange(num_classes), np.asarray(jax.random.randint(place_key, (num_classes,), 0, side * side))] = 1
    return kernels.reshape(num_classes, side, side)


def blur_by_class(images: np.ndarray, labels: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Filtered images over their largest value, float32 [N, H, W, C] in [0, 1], of uint8 images; black stays black."""
    side = kernels.shape[1]
    pad, (height, width) = side // 2, images.shape[1:3]
    x = np.pad(images.astype(np.float32) / 255, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    result = np.zeros(images.shape, np.float32)
    for row in range(side):
        for column in range(side):
            weight = kernels[labels, row, column].reshape(-1, 1, 1, 1)
            result += weight * x[:, row : row + height, column : column + width]
    largest = result.max(axis=(1, 2, 3), keepdims=True)
    return result / np.where(largest > 0, largest, 1)


def convolution_based(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: CudaSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """CUDA; see `Baseline`.

    Raises:
        UserError: the kernel's side is even.
    """
    if settings.kernel_size % 2 == 0:
        raise UserError(f"cuda: kernel_size {settings.kernel_size} must be odd")
    kernels, released = class_kernels(key, num_classes, settings), []
    for start in range(0, len(images), 1000):  # in parts, for memory alone
        part = images[start : start + 1000]
        blurred = blur_by_class(part, labels[start : start + 1000], kernels)
        released.append(release(part, blurred - part.astype(np.float32) / 255, eps=eps, norm="none"))
    return np.concatenate(released)


CUDA = BaselineMethod(
    run=convolution_based,
    settings=CudaSettings(),
    summary="random blur per class (Sadasivan et al. 2023)",
    norm="none",
    eps=None,
    surrogates=False,
)
