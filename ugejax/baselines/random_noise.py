"""Controls: noise that nobody has optimised, one tensor per image or one per class.

Uniform in the L-infinity ball, as the random noise that Huang et al., Unlearnable Examples, ICLR 2021 (arXiv
2101.04898), and Tao et al., Better Safe Than Sorry, NeurIPS 2021 (arXiv 2102.04716), attack P5, compare
with. Sample-wise noise harms nobody; class-wise noise is a shortcut without any optimisation.
"""

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod, NoSettings
from ugejax.baselines.pgd import uniform_noise
from ugejax.baselines.release import release
from ugejax.reporting import Report


def random_samples(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: NoSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Releases x + delta_i with delta_i ~ U(-eps, eps) for every image; see `Baseline`."""
    return release(images, uniform_noise(key, images.shape, eps), eps=eps, norm="linf")


def random_classes(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: NoSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Releases x + delta_y with delta_k ~ U(-eps, eps) for every class; see `Baseline`."""
    return release(images, uniform_noise(key, (num_classes, *images.shape[1:]), eps)[labels], eps=eps, norm="linf")


RANDOM = BaselineMethod(
    run=random_samples,
    settings=NoSettings(),
    summary="control: uniform noise per image",
    norm="linf",
    eps=8 / 255,
    surrogates=False,
)


RANDOM_CLASS = BaselineMethod(
    run=random_classes,
    settings=NoSettings(),
    summary="control: uniform noise per class",
    norm="linf",
    eps=8 / 255,
    surrogates=False,
)
