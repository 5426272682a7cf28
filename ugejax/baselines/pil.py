"""PIL: perturbation-induced linearisation, with no surrogate but a linear classifier.

Liu, Chen, Zhang, Perturbation-Induced Linearization: Constructing Unlearnable Data with Solely Linear Classifiers, ICLR
2026 (arXiv 2601.19967): for f(x) = x W without bias, trained on the originals,

    min_{|delta|_inf <= eps} lambda CE(f(delta), y) + (1 - lambda) KL(uniform || softmax f(x - delta))
    x_u = x - delta

so that -delta, the part of x_u that a linear map can read, tells the class, and what is left of x does not. As in the
published code the perturbation is subtracted, and delta is a share of the raw image, not of the normalised one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import Gradient, Loss, descend, make_gradient, perturb, uniform_noise
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import shuffled_batches
from ugejax.compiler import kept
from ugejax.losses import error_minimising
from ugejax.reporting import Report
from ugejax.training import decode


@dataclass(frozen=True)
class PilSettings:
    """Settings of PIL; the defaults are the published code's but for the batch.

    Attributes:
        epochs: of the linear classifier's training.
        learning_rate: of its SGD with momentum 0.9 and a cosine decay to zero.
        batch_size: images of a step, of training and of the noise (published code: 512, which leaves a small set too
            few steps).
        pgd_steps: steps of the noise, from a uniform start.
        step_size: as a share of eps.
        balance: lambda.
    """

    epochs: int = 30
    learning_rate: float = 0.003
    batch_size: int = 128
    pgd_steps: int = 30
    step_size: float = 0.1
    balance: float = 0.9


def linearising_loss(num_classes: int, balance: float) -> Loss:
    """loss((W, x), key, x - delta, y) -> float [B]: the objective above, as a function of the released image."""

    def loss(context, key, x_u, y):
        weights, x = context
        shortcut = error_minimising(_logits(weights, x - x_u), y)
        log_p = jax.nn.log_softmax(_logits(weights, x_u))
        obfuscation = -log_p.mean(axis=-1) - jnp.log(num_classes)  # KL(u || p) = -log K - mean_k log p_k
        return balance * shortcut + (1 - balance) * obfuscation

    return loss


def train_linear(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, settings: PilSettings, report: Report
) -> jax.Array:
    """W, float32 [H W C, K], from zero: softmax regression without bias on images in [0, 1]."""
    size = min(settings.batch_size, len(images))
    per_epoch = len(images) // size
    count = per_epoch * settings.epochs
    optimizer, step = _training(settings.learning_rate, count)
    weights = jnp.zeros((int(np.prod(images.shape[1:])), num_classes))
    state, order = optimizer.init(weights), shuffled_batches(key, len(images), size)
    for done in range(1, count + 1):
        index = next(order)
        weights, state, value = step(weights, state, jnp.asarray(images[index]), jnp.asarray(labels[index]))
        if done % per_epoch == 0:
            report("linear surrogate", done // per_epoch, settings.epochs, {"loss": float(value)})
    return weights


@kept
def _training(learning_rate: float, count: int) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
    """The optimizer for so many steps, and a step (weights, optimizer state, x, y) -> (both, mean loss)."""
    optimizer = optax.sgd(optax.cosine_decay_schedule(learning_rate, count), momentum=0.9)

    def step(weights, state, x, y):
        def loss(weights):
            return error_minimising(_logits(weights, decode(x)), y).mean()

        value, grad = jax.value_and_grad(loss)(weights)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(weights, updates), state, value

    return optimizer, jax.jit(step)


@kept
def _gradient(num_classes: int, balance: float) -> Gradient:
    return make_gradient(linearising_loss(num_classes, balance))


def linearise(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: PilSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """PIL; see `Baseline`."""
    train_key, start_key, noise_key = jax.random.split(key, 3)
    weights = train_linear(train_key, images, labels, num_classes, settings, report)
    gradient = _gradient(num_classes, settings.balance)

    def of_batch(key, x, y, change):  # the change of the image, -delta
        return descend(
            gradient, [(weights, x)], key, x, y, change,
            eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
        )  # fmt: skip

    change = perturb(
        of_batch, noise_key, images, labels, uniform_noise(start_key, images.shape, eps),
        batch_size=settings.batch_size, report=report,
    )  # fmt: skip
    return release(images, change, eps=eps, norm="linf")


def _logits(weights: jax.Array, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ weights


PIL = BaselineMethod(
    run=linearise,
    settings=PilSettings(),
    summary="perturbation-induced linearisation (Liu et al. 2026)",
    norm="linf",
    eps=8 / 255,
    surrogates=False,
)
