"""HYPO: hypocritical perturbations, which make the images look easier than they are.

Tao et al., Better Safe Than Sorry: Preventing Delusive Adversaries with Adversarial Training, NeurIPS 2021 (arXiv
2102.04716), attack P2:

    min_{|delta| <= eps} l(f_theta*(x + delta), y)

with theta* trained on the originals and then fixed, where EM trains it along. The paper's budget is L2 0.5; here, as in
the field's comparisons (APBench), it is L-infinity 8/255.
"""

import functools
from dataclasses import dataclass

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import descend, perturb
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import clean_checkpoints, error_gradient
from ugejax.reporting import Report


@dataclass(frozen=True)
class HypoSettings:
    """Settings of HYPO.

    Attributes:
        surrogate: network (paper: VGG-16).
        epochs: of its training on the originals.
        batch_size: images a step of the noise (published code: 256).
        pgd_steps: steps of the noise, from zero (published code: 100).
        step_size: as a share of eps (published code: 0.2 for L2; APBench: 0.1).
    """

    surrogate: str = "cnn"
    epochs: int = 15
    batch_size: int = 128
    pgd_steps: int = 50
    step_size: float = 0.1


def hypocritical(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: HypoSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """HYPO; see `Baseline`."""
    train_key, noise_key = jax.random.split(key)
    module, (weights,) = clean_checkpoints(
        train_key, settings.surrogate, images, labels, num_classes, epochs=settings.epochs, report=report
    )

    of_batch = functools.partial(
        descend, error_gradient(module), [weights],
        eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
    )  # fmt: skip

    delta = perturb(
        of_batch, noise_key, images, labels, np.zeros(images.shape, np.float32),
        batch_size=settings.batch_size, report=report,
    )  # fmt: skip
    return release(images, delta, eps=eps, norm="linf")


HYPO = BaselineMethod(
    run=hypocritical,
    settings=HypoSettings(),
    summary="hypocritical perturbation (Tao et al. 2021)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
