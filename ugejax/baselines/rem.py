"""REM: robust error-minimising noise, which is to survive adversarial training.

Fu et al., Robust Unlearnable Examples: Protecting Data Against Adversarial Learning, ICLR 2022 (arXiv 2203.14533):

    min_theta E min_{|delta_u| <= rho_u} E_{t ~ T} max_{|delta_a| <= rho_a} l(f_theta(t(x + delta_u) + delta_a), y)

with T random crops and flips. Each step takes one batch: delta_u by projected gradient descent from a
random start, every gradient at the delta_a that projected gradient ascent finds for t(x + delta_u); then theta on
t(x + delta_u) + delta_a. The noise that is released is made in the same way for every image at the last theta.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import Gradient, descend, descent_step, make_gradient, perturb, uniform_noise
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import joint_surrogate, shuffled_batches
from ugejax.compiler import kept
from ugejax.constraints.budget import box
from ugejax.reporting import Report
from ugejax.training import decode
from ugejax.transforms import compose

# attack(weights, key, z float [B, H, W, C], y float [B, K]) -> delta_a
Attack = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class RemSettings:
    """Settings of REM and SEM; the paper's need an accelerator.

    Attributes:
        surrogate: network (paper: r18).
        train_steps: steps of the surrogate (paper: 5,000); its rate falls tenfold after 40 % and 80 % of them.
        batch_size: images of a step (paper: 128).
        pgd_steps: steps of delta_u (paper: 10).
        step_size: of delta_u, as a share of eps (paper: 0.2).
        samples: transforms over which each gradient of delta_u is averaged (paper: 5).
        attack_radius: rho_a, as a share of eps (paper: 0.5, 4/255 at 8/255).
        attack_steps: steps of delta_a (paper: 10).
        attack_step_size: of delta_a, as a share of its radius (paper: 0.2).
        transforms: T, names in `ugejax.transforms.TRANSFORMS`, applied in turn.
    """

    surrogate: str = "cnn"
    train_steps: int = 200
    batch_size: int = 64
    pgd_steps: int = 10
    step_size: float = 0.2
    samples: int = 1
    attack_radius: float = 0.5
    attack_steps: int = 3
    attack_step_size: float = 0.5
    transforms: tuple[str, ...] = ("crop-flip",)


def robust_error_minimising(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: RemSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """REM; see `Baseline`."""
    return defend(key, images, labels, num_classes, eps=eps, settings=settings, report=report, against_random=False)


def defend(
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    eps: float,
    settings: RemSettings,
    report: Report,
    against_random: bool,
) -> np.ndarray:
    """The algorithm that REM and SEM share; see `Baseline`.

    Args:
        key: as for `Baseline`, likewise the others.
        images: originals.
        labels: their classes.
        num_classes: K.
        eps: rho_u.
        settings: of both.
        report: progress.
        against_random: whether delta_u meets a random delta_a instead of the worst one. The surrogate always meets the
            worst one.
    """
    init_key, order_key, step_key, last_key = jax.random.split(key, 4)
    size = min(settings.batch_size, len(images))
    decay_at = (settings.train_steps * 2 // 5, settings.train_steps * 4 // 5)
    module, state, train = joint_surrogate(
        init_key, settings.surrogate, images, num_classes, batch_size=size, decay_at=decay_at
    )
    transformed = _view(num_classes, settings.transforms)
    worst = _make_attack(module, eps, settings)
    met = _make_random(eps, settings) if against_random else worst

    gradient = _gradient(module, num_classes, settings.transforms, settings.samples)

    def of_batch(key, x, y, delta, weights):
        delta, value = box(delta, x), jnp.zeros(())
        for step in range(settings.pgd_steps):
            view_key, attack_key = jax.random.split(jax.random.fold_in(key, step))
            z, targets = transformed(view_key, x + delta, y, settings.samples)
            delta_a = met(weights, attack_key, z, targets)
            grad, value = gradient((weights, delta_a), view_key, x, y, delta)  # the same key, hence the same t
            delta = descent_step(delta, grad, x, eps=eps, step_size=settings.step_size * eps)
        return delta, value

    order = shuffled_batches(order_key, len(images), size)
    for step in range(settings.train_steps):
        noise_key, view_key, attack_key = jax.random.split(jax.random.fold_in(step_key, step), 3)
        index = next(order)
        x, y = decode(jnp.asarray(images[index])), jnp.asarray(labels[index])
        start = jax.random.uniform(noise_key, x.shape, minval=-eps, maxval=eps)
        delta, _ = of_batch(noise_key, x, y, start, state.variables)
        z, targets = transformed(view_key, x + delta, y, 1)
        state, value = train(state, z + worst(state.variables, attack_key, z, targets), targets)
        if (step + 1) % max(1, settings.train_steps // 20) == 0:
            report("robust surrogate", step + 1, settings.train_steps, {"loss": float(value)})
    weights = state.variables
    delta = perturb(
        lambda key, x, y, delta: of_batch(key, x, y, delta, weights), last_key, images, labels,
        uniform_noise(jax.random.fold_in(last_key, len(images)), images.shape, eps), batch_size=size, report=report,
    )  # fmt: skip
    return release(images, delta, eps=eps, norm="linf")


@kept
def _view(num_classes: int, transforms: tuple[str, ...]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(key, x [B, ...], y int32 [B], samples J) -> (t(x) [J B, ...], labels float [J B, K]), t drawn for each image."""
    transform = compose(transforms)

    def view(key, x, y, samples):
        x = jnp.tile(x, (samples, 1, 1, 1))
        return transform(key, x, jnp.tile(jax.nn.one_hot(y, num_classes), (samples, 1)))

    return jax.jit(view, static_argnums=3)


@kept
def _gradient(module: Any, num_classes: int, transforms: tuple[str, ...], samples: int) -> Gradient:
    """Of the loss of transformed images beside delta_a; the context is (the network's variables, delta_a)."""
    view = _view(num_classes, transforms)

    def loss(context, key, x_u, y):
        weights, delta_a = context
        z, y = view(key, x_u, y, samples)
        return optax.softmax_cross_entropy(module.apply(weights, z + delta_a, train=False), y)

    return make_gradient(loss)


@kept
def _gain_gradient(module: Any) -> Gradient:
    """Of the loss by delta_a, times -1; the context is the network's variables, labels are soft."""

    def gain(weights, key, z_a, y):
        return -optax.softmax_cross_entropy(module.apply(weights, z_a, train=False), y)

    return make_gradient(gain)


def _make_attack(module: Any, eps: float, settings: RemSettings) -> Attack:
    """The maximum over delta_a: projected gradient ascent from a random start."""
    radius, gradient = settings.attack_radius * eps, _gain_gradient(module)

    def attack(weights, key, z, y):
        start = jax.random.uniform(key, z.shape, minval=-radius, maxval=radius)
        return descend(
            gradient, [weights], key, z, y, start,
            eps=radius, step_size=settings.attack_step_size * radius, steps=settings.attack_steps,
        )[0]  # fmt: skip

    return attack


def _make_random(eps: float, settings: RemSettings) -> Attack:
    radius = settings.attack_radius * eps

    def attack(weights, key, z, y):
        return box(jax.random.uniform(key, z.shape, minval=-radius, maxval=radius), z)

    return attack


REM = BaselineMethod(
    run=robust_error_minimising,
    settings=RemSettings(),
    summary="robust error-minimising noise (Fu et al. 2022)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
