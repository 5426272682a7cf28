"""SEP: self-ensemble protection, one perturbation against a network at every stage of its training.

Chen et al., Self-Ensemble Protection: Training Checkpoints Are Good Data Protectors, ICLR 2023 (arXiv 2211.12005), with
feature alignment (SEP-FA):

    min_{|delta|_inf <= eps} sum_i |h_i(x + delta) - c_i,g(y)|^2 / D,   g(y) = y + floor(K / 2) mod K

with h_i the D penultimate features of the checkpoint i of one training on the originals, c_i,k their mean over class k.
Examples that no stage of training recognises are ones that training ignores. The variance reduction of SEP-FA-VR (SVRG
over the checkpoints in the inner loop) is left out.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import Gradient, batches, descend, make_gradient, perturb
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import clean_checkpoints
from ugejax.compiler import compiled, kept
from ugejax.losses import class_prototypes
from ugejax.reporting import Report
from ugejax.training import decode


@dataclass(frozen=True)
class SepSettings:
    """Settings of SEP.

    Attributes:
        surrogate: network (paper: r18).
        epochs: of its training on the originals (paper: 120).
        checkpoints: of that training, evenly spaced, the end among them (paper: 30).
        batch_size: images a step of the noise.
        pgd_steps: steps of the noise, from zero (paper: 30).
        step_size: as a share of eps (published code: 1/255 whatever eps, which is this share of 8/255).
    """

    surrogate: str = "cnn"
    epochs: int = 15
    checkpoints: int = 5
    batch_size: int = 128
    pgd_steps: int = 30
    step_size: float = 0.125


def target(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """g(y): the class half the classes further on, y + 5 mod 10 in the published code."""
    return (labels + num_classes // 2) % num_classes


def self_ensemble(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: SepSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """SEP-FA; see `Baseline`."""
    train_key, noise_key = jax.random.split(key)
    module, checkpoints = clean_checkpoints(
        train_key, settings.surrogate, images, labels, num_classes,
        epochs=settings.epochs, checkpoints=settings.checkpoints, report=report,
    )  # fmt: skip

    features = _features(module)

    def means(weights):
        phi = [
            features(weights, decode(jnp.asarray(images[index])))[:count]
            for index, count in batches(len(images), settings.batch_size)
        ]
        return class_prototypes(jnp.concatenate(phi), jnp.asarray(labels), num_classes=num_classes)

    of_batch = functools.partial(
        descend, _gradient(module), [(weights, means(weights)) for weights in checkpoints],
        eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
    )  # fmt: skip

    delta = perturb(
        of_batch, noise_key, images, target(labels, num_classes), np.zeros(images.shape, np.float32),
        batch_size=settings.batch_size, report=report,
    )  # fmt: skip
    return release(images, delta, eps=eps, norm="linf")


@kept
def _features(module: Any) -> Callable[..., jax.Array]:
    """(the network's variables, x) -> features."""
    return compiled(lambda weights, x: module.apply(weights, x, train=False, method="features"))


@kept
def _gradient(module: Any) -> Gradient:
    """Of the distance of features; the context is (the network's variables, the classes' features)."""
    features = _features(module)

    def loss(context, key, x_u, y):
        weights, prototypes = context
        return jnp.mean(jnp.square(features(weights, x_u) - prototypes[y]), axis=-1)

    return make_gradient(loss)


SEP = BaselineMethod(
    run=self_ensemble,
    settings=SepSettings(),
    summary="self-ensemble protection with feature alignment (Chen et al. 2023)",
    norm="linf",
    eps=2 / 255,
    surrogates=True,
)
