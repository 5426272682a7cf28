"""SEM: stable error-minimising noise, REM with a random perturbation where the noise met an adversarial one.

Liu, Xu, Chen, Sun, Stable Unlearnable Example: Enhancing the Robustness of Unlearnable Examples via Stable
Error-Minimizing Noise, AAAI 2024 (arXiv 2311.13091): delta_u minimises E_t E_{delta_r ~ U(-rho, rho)} l(f_theta(t(x +
delta_u) + delta_r), y), which costs no inner ascent, while theta still trains against the worst delta_a. What is known
of the paper does not give rho for delta_r: here it is that of delta_a. Settings are those of REM.
"""

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.rem import RemSettings, defend
from ugejax.reporting import Report


def stable_error_minimising(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: RemSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """SEM; see `Baseline`."""
    return defend(key, images, labels, num_classes, eps=eps, settings=settings, report=report, against_random=True)


SEM = BaselineMethod(
    run=stable_error_minimising,
    settings=RemSettings(),
    summary="stable error-minimising noise (Liu et al. 2024)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
