"""LSP: linearly separable perturbations, synthetic class points spread over blocks of pixels.

Yu et al., Availability Attacks Create Shortcuts, KDD 2022 (arXiv 2111.00898): points of K well separated
Gaussian clusters, one for each image, in one dimension per 8x8 block and channel; every dimension fills its block; the
result is scaled to an L2 norm, in the paper that of 6/255 on every value (1.30 for 32x32x3 images).
"""

from dataclasses import dataclass

import jax
import numpy as np

from ugejax.baselines.method import CIFAR_VALUES, BaselineMethod
from ugejax.baselines.release import release, scale_to_l2
from ugejax.errors import UserError
from ugejax.reporting import Report


@dataclass(frozen=True)
class LspSettings:
    """Settings of LSP; the defaults are the paper's.

    Attributes:
        block: side of the blocks in pixels (APBench takes 32 for images of 224 pixels).
        class_separation: half the side of the hypercube on whose corners the clusters of variance of order 1 lie.
    """

    block: int = 8
    class_separation: float = 10.0


def separable_noise(
    key: jax.Array, labels: np.ndarray, num_classes: int, shape: tuple[int, int, int], settings: LspSettings
) -> np.ndarray:
    """The noise before it is scaled, float32 [N, H, W, C], for images of shape (H, W, C).

    Raises:
        UserError: there are too few blocks for that many clusters.
    """
    height, width, channels = shape
    rows, columns = -(-height // settings.block), -(-width // settings.block)
    dimensions = rows * columns * channels
    if 2**dimensions < 4 * num_classes:
        raise UserError(
            f"lsp: blocks of {settings.block} pixels leave {height}x{width} images {dimensions} dimensions, too few "
            f"for {num_classes} classes; set a smaller block"
        )
    from sklearn.datasets import make_classification  # imported late: scikit-learn takes a second to load

    counts = np.bincount(labels, minlength=num_classes)
    points, point_labels = make_classification(
        n_samples=int(counts.max()) * num_classes,
        n_features=dimensions,
        n_informative=dimensions,
        n_redundant=0,
        n_repeated=0,
        n_classes=num_classes,
        n_clusters_per_class=1,
        class_sep=settings.class_separation,
        flip_y=0.0,
        random_state=int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max)),
    )
    chosen = np.empty((len(labels), dimensions), np.float32)
    for k in range(num_classes):
        chosen[labels == k] = points[point_labels == k][: counts[k]]
    noise = chosen.reshape(len(labels), rows, columns, channels)
    return noise.repeat(settings.block, axis=1).repeat(settings.block, axis=2)[:, :height, :width]


def linearly_separable(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: LspSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """LSP; see `Baseline`."""
    height, width, channels = images.shape[1:]
    noise = separable_noise(key, labels, num_classes, (height, width, channels), settings)
    return release(images, scale_to_l2(noise, eps), eps=eps, norm="l2")


LSP = BaselineMethod(
    run=linearly_separable,
    settings=LspSettings(),
    summary="linearly separable blocks (Yu et al. 2022)",
    norm="l2",
    eps=6 / 255 * CIFAR_VALUES**0.5,
    surrogates=False,
)
