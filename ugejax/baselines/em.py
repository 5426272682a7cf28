"""EM: error-minimising noise, sample-wise and class-wise.

Huang et al., Unlearnable Examples: Making Personal Data Unexploitable, ICLR 2021 (arXiv 2101.04898), equation 2:

    min_theta E min_delta l(f_theta(x + delta), y),   |delta|_inf <= eps

by turns: M steps of theta on x + delta, then delta for the whole set by projected gradient descent, until
the surrogate's training error on the perturbed images falls below lambda.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import descend, perturb, perturb_classes, uniform_noise
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import error_gradient, joint_surrogate, shuffled_batches
from ugejax.reporting import Report
from ugejax.training import accuracy


@dataclass(frozen=True)
class EmSettings:
    """Settings of EM; the defaults are the paper's where nothing else is said.

    Attributes:
        surrogate: network (paper: r18).
        rounds: at most so many turns; the published code goes on until `stop_error` is reached.
        train_steps: M, steps of the surrogate in a round.
        batch_size: images of a step.
        pgd_steps: steps of the noise in a round (paper: 20 sample-wise, 1 class-wise).
        step_size: of the noise, as a share of eps.
        stop_error: lambda (paper: 0.01 sample-wise, 0.1 class-wise).
    """

    surrogate: str = "cnn"
    rounds: int = 10
    train_steps: int = 10
    batch_size: int = 128
    pgd_steps: int = 20
    step_size: float = 0.1
    stop_error: float = 0.01


def error_minimising_samples(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: EmSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Sample-wise EM; see `Baseline`."""

    def improve(of_batch, key, noise):
        return perturb(of_batch, key, images, labels, noise, batch_size=settings.batch_size)

    start = uniform_noise(jax.random.fold_in(key, 0), images.shape, eps)
    return _by_turns(key, images, labels, num_classes, eps, settings, report, start, lambda noise: noise, improve)


def error_minimising_classes(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: EmSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Class-wise EM; see `Baseline`."""

    def improve(of_batch, key, noise):
        order = np.asarray(jax.random.permutation(key, len(images)))  # batches of mixed classes, whatever the order
        return np.asarray(
            perturb_classes(of_batch, key, images, labels, order, jnp.asarray(noise), batch_size=settings.batch_size)
        )

    start = uniform_noise(jax.random.fold_in(key, 0), (num_classes, *images.shape[1:]), eps)
    return _by_turns(
        key, images, labels, num_classes, eps, settings, report, start, lambda noise: noise[labels], improve
    )


def _by_turns(
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    eps: float,
    settings: EmSettings,
    report: Report,
    noise: np.ndarray,
    of_images: Callable[[np.ndarray], np.ndarray],
    improve: Callable[..., np.ndarray],
) -> np.ndarray:
    """The two minimisations by turns, from a free noise tensor; `of_images` gives the perturbation of every image."""
    init_key, order_key, noise_key = jax.random.split(jax.random.fold_in(key, 1), 3)
    size = min(settings.batch_size, len(images))
    module, state, train = joint_surrogate(init_key, settings.surrogate, images, num_classes, batch_size=size)

    gradient, order = error_gradient(module), shuffled_batches(order_key, len(images), size)
    released = release(images, of_images(noise), eps=eps, norm="linf")
    for turn in range(settings.rounds):
        values = []
        for _ in range(settings.train_steps):
            index = next(order)
            state, value = train(state, jnp.asarray(released[index]), jnp.asarray(labels[index]))
            values.append(value)
        of_batch = functools.partial(
            descend, gradient, [state.variables],
            eps=eps, step_size=settings.step_size * eps, steps=settings.pgd_steps,
        )  # fmt: skip
        noise = improve(of_batch, jax.random.fold_in(noise_key, turn), noise)
        released = release(images, of_images(noise), eps=eps, norm="linf")
        error = 1 - accuracy(module, state.variables, released, labels)
        figures = {"loss": float(np.mean(values)), "error": error}
        report("error-minimising noise", turn + 1, settings.rounds, figures)
        if error < settings.stop_error:
            break
    return released


EM = BaselineMethod(
    run=error_minimising_samples,
    settings=EmSettings(),
    summary="error-minimising noise per image (Huang et al. 2021)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)


EM_CLASS = BaselineMethod(
    run=error_minimising_classes,
    settings=EmSettings(pgd_steps=1, stop_error=0.1),
    summary="error-minimising noise per class (Huang et al. 2021)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
