"""TAP: targeted adversarial poisons, adversarial examples towards the next class.

Fowl et al., Adversarial Examples Make Strong Poisons, NeurIPS 2021 (arXiv 2106.10807), class-targeted:

    min_{|delta|_inf <= eps} E_t l(f_theta*(t(x + delta)), g(y)),   g(y) = y + 1 mod K

with theta* trained on the originals, t a random crop and flip, by projected gradient descent. The released image
carries features of class g(y) under the label y.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import Gradient, descend, make_gradient, perturb, uniform_noise
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import clean_checkpoints
from ugejax.compiler import kept
from ugejax.reporting import Report
from ugejax.transforms import compose


@dataclass(frozen=True)
class TapSettings:
    """Settings of TAP.

    Attributes:
        surrogate: network (paper: r18).
        epochs: of its training on the originals.
        batch_size: images a step of the noise (published code: 512).
        pgd_steps: steps of the noise (published code: 250, and the best of 8 restarts; here one).
        step_size: as a share of eps (published code: 0.05).
        transforms: of the training and of t, names in `ugejax.transforms.TRANSFORMS`, applied in turn.
    """

    surrogate: str = "cnn"
    epochs: int = 15
    batch_size: int = 128
    pgd_steps: int = 50
    step_size: float = 0.1
    transforms: tuple[str, ...] = ("crop-flip",)


def target(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """g(y): the next class, the permutation of the published code."""
    return (labels + 1) % num_classes


def targeted_adversarial_poison(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: TapSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """TAP; see `Baseline`."""
    train_key, start_key, noise_key = jax.random.split(key, 3)
    module, (weights,) = clean_checkpoints(
        train_key, settings.surrogate, images, labels, num_classes,
        epochs=settings.epochs, transforms=settings.transforms, report=report,
    )  # fmt: skip
    of_batch = functools.partial(
        descend, _gradient(module, settings.transforms, num_classes), [weights],
        eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
    )  # fmt: skip

    delta = perturb(
        of_batch, noise_key, images, target(labels, num_classes), uniform_noise(start_key, images.shape, eps),
        batch_size=settings.batch_size, report=report,
    )  # fmt: skip
    return release(images, delta, eps=eps, norm="linf")


@kept
def _gradient(module: Any, transforms: tuple[str, ...], num_classes: int) -> Gradient:
    """Of the loss of transformed images; the context is the network's variables."""
    transform = compose(transforms)

    def loss(weights, key, x_u, y):
        z, targets = transform(key, x_u, jax.nn.one_hot(y, num_classes))
        return optax.softmax_cross_entropy(module.apply(weights, z, train=False), targets)

    return make_gradient(loss)


TAP = BaselineMethod(
    run=targeted_adversarial_poison,
    settings=TapSettings(),
    summary="targeted adversarial poison (Fowl et al. 2021)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
