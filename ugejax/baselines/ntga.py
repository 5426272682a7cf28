"""NTGA: neural tangent generalisation attacks, through the closed form of training an infinitely wide network.

Yuan, Wu, Neural Tangent Generalization Attacks, ICML 2021: the perturbation of a block of training images
maximises the loss on clean validation images of the network trained on the block for time t,

    max_{|delta|_inf <= eps} l(f(X_v; t), Y_v)
    f(X_v; t) = Theta(X_v, X_u) Theta(X_u, X_u)^-1 (I - e^{-eta Theta(X_u, X_u) t}) Y_u

with Theta the tangent kernel of a fully connected network: no surrogate is trained, and the inner training is exact
rather than cut off after a few steps, so it is sound on a small set. (DeepConfuse, the other attack of its kind, trains
a generator through hundreds of complete trainings of a classifier.)

The network is five layers of the error function and a linear readout (the published one lacks the readout), in the
tangent parametrisation with weights of variance 1.76 and biases of variance 0.18; its kernel is that of Lee et al.,
Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient Descent, NeurIPS 2019 (arXiv 1902.06720),
with Williams' integral for erf. f is integrated by Euler steps on the mean squared error, which needs no
inverse. The paper holds validation images apart; here they are clean images of the set, mostly from other blocks.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import Gradient, descend, make_gradient, perturb
from ugejax.baselines.release import release
from ugejax.compiler import kept
from ugejax.losses import error_minimising
from ugejax.reporting import Report
from ugejax.training import decode

WEIGHT_VARIANCE, BIAS_VARIANCE, LAYERS = 1.76, 0.18, 5
# The kernel of an image with itself is at most this, whatever the image in [0, 1]; it bounds the Euler step.
KERNEL_BOUND = 10


@dataclass(frozen=True)
class NtgaSettings:
    """Settings of NTGA; the defaults are those of the published code but for the validation set.

    Attributes:
        block: training images perturbed together.
        validation: clean images on which the loss is maximised (published code: 10,000, held apart).
        time: t, in steps of learning rate 1 on the mean over examples and classes of half the squared error.
        pgd_steps: steps of the noise, from zero.
        step_size: as a share of eps.
    """

    block: int = 512
    validation: int = 512
    time: int = 64
    pgd_steps: int = 10
    step_size: float = 0.11


def tangent_kernel(x: jax.Array, z: jax.Array) -> jax.Array:
    """Theta(x, z), float [A, B], of flattened images x [A, D] and z [B, D] in [0, 1]."""

    def dense(product):
        return WEIGHT_VARIANCE * product + BIAS_VARIANCE

    def gaussian(product, of_x, of_z):
        """(E erf(u) erf(v), E erf'(u) erf'(v)) for Gaussian (u, v) of the given covariance."""
        scale = (1 + 2 * of_x) * (1 + 2 * of_z)
        return (
            2 / jnp.pi * jnp.arcsin(2 * product / jnp.sqrt(scale)),
            4 / jnp.pi / jnp.sqrt(scale - 4 * jnp.square(product)),
        )

    width = x.shape[1]
    of_x, of_z = (dense(jnp.square(a).sum(axis=1) / width) for a in (x, z))
    covariance = dense(x @ z.T / width)
    tangent = covariance
    for _ in range(LAYERS):
        erf, slope = gaussian(covariance, of_x[:, None], of_z[None])
        of_x, of_z = (dense(gaussian(a, a, a)[0]) for a in (of_x, of_z))
        covariance = dense(erf)
        tangent = covariance + WEIGHT_VARIANCE * slope * tangent
    return tangent


def trained_outputs(x_v: jax.Array, x_u: jax.Array, y_u: jax.Array, *, time: int) -> jax.Array:
    """f(X_v; t) of the network trained on (X_u, Y_u) from output 0, float [V, K].

    Args:
        x_v: validation images, float [V, H, W, C].
        x_u: training images, float [B, H, W, C].
        y_u: their targets, float [B, K].
        time: t.
    """
    x_v, x_u = (x.reshape(len(x), -1) for x in (x_v, x_u))
    kernel = tangent_kernel(x_u, x_u)
    substeps = -(-KERNEL_BOUND // y_u.shape[1])  # the largest eigenvalue over y_u.size is below KERNEL_BOUND / K
    rate = 1 / (y_u.size * substeps)

    def euler(_, carry):
        residual, dual = carry
        return residual - rate * kernel @ residual, dual + rate * residual

    # A loop of a known number of steps is a scan: it can be differentiated.
    _, dual = jax.lax.fori_loop(0, time * substeps, euler, (y_u, jnp.zeros_like(y_u)))
    return tangent_kernel(x_v, x_u) @ dual


def neural_tangent_attack(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: NtgaSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """NTGA; see `Baseline`."""
    gradient, count = _gradient(num_classes, settings.time), min(settings.validation, len(images))

    def of_batch(key, x, y, delta):
        index = np.asarray(jax.random.choice(key, len(images), (count,), replace=False))
        validation = (decode(jnp.asarray(images[index])), jnp.asarray(labels[index]))
        return descend(
            gradient, [validation], key, x, y, delta,
            eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
        )  # fmt: skip

    # Blocks of neighbours might hold one class only: they are drawn at random.
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), len(images)))
    delta = np.empty(images.shape, np.float32)
    delta[order] = perturb(
        of_batch, jax.random.fold_in(key, 1), images[order], labels[order], np.zeros(images.shape, np.float32),
        batch_size=settings.block, report=report,
    )  # fmt: skip
    return release(images, delta, eps=eps, norm="linf")


@kept
def _gradient(num_classes: int, time: int) -> Gradient:
    """Of the validation loss times -1; the context is (validation images, their labels)."""

    def loss(validation, key, x_u, y):
        x_v, y_v = validation
        outputs = trained_outputs(x_v, x_u, jax.nn.one_hot(y, num_classes), time=time)
        return -error_minimising(outputs, y_v)

    return make_gradient(loss)


NTGA = BaselineMethod(
    run=neural_tangent_attack,
    settings=NtgaSettings(),
    summary="neural tangent generalisation attack (Yuan & Wu 2021)",
    norm="linf",
    eps=8 / 255,
    surrogates=False,
)
