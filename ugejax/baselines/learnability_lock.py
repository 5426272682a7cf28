"""How both learnability locks are learned: error-minimising transformations, by turns with a surrogate.

Peng, Chen, Learnability Lock: Authorized Learnability Control Through Adversarial Invertible Transformations, ICLR 2022
(arXiv 2202.03576):

    min_theta min_psi E l(f_theta(g_psi_y(x)), y),   |g_psi_y(x) - x|_inf <= eps,   g_psi_y invertible

with I steps of theta, then J passes of psi, until the surrogate's training accuracy on the locked images exceeds 0.9.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.baselines.release import release
from ugejax.baselines.surrogate import joint_surrogate, shuffled_batches
from ugejax.compiler import compiled, kept
from ugejax.losses import error_minimising
from ugejax.reporting import Report
from ugejax.training import accuracy, decode


@dataclass(frozen=True)
class LockSettings:
    """Settings that the locks share; the defaults are those of the published code where nothing else is said.

    Attributes:
        surrogate: network (paper: r18).
        rounds: at most so many turns (published code: 50).
        train_steps: I, steps of the surrogate in a round (published notebook: 20).
        batch_size: images of a step (published notebook: 256).
        passes: J, passes of the lock over the images in a round (published notebook: 1).
        learning_rate: of the lock's SGD with momentum 0.9 (published notebook: 0.1).
        stop_accuracy: the surrogate's training accuracy at which the lock is done.
    """

    surrogate: str = "cnn"
    rounds: int = 10
    train_steps: int = 20
    batch_size: int = 128
    passes: int = 1
    learning_rate: float = 0.1
    stop_accuracy: float = 0.9


def learn_lock(
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    lock: Callable[[Any, jax.Array, jax.Array], jax.Array],
    params: Any,
    project: Callable[[Any], Any],
    settings: LockSettings,
    report: Report,
) -> Any:
    """Learn the parameters psi of a lock.

    Args:
        key: PRNG key of surrogate and order.
        images: uint8 [N, H, W, C].
        labels: int32 [N].
        num_classes: K.
        lock: (params, x float [B, H, W, C], y int32 [B]) -> locked images, float [B, H, W, C].
        params: where to start.
        project: brings parameters back to those that keep the budget and can be inverted, after every step.
        settings: of both locks.
        report: progress.

    Returns:
        The parameters.
    """
    init_key, train_key, lock_key = jax.random.split(key, 3)
    size = min(settings.batch_size, len(images))
    module, state, train = joint_surrogate(init_key, settings.surrogate, images, num_classes, batch_size=size)
    optimizer, improve, locked = _programs(module, lock, project, settings.learning_rate)
    train_order = shuffled_batches(train_key, len(images), size)
    lock_order = shuffled_batches(lock_key, len(images), size)

    def batch(index):
        return jnp.asarray(images[index]), jnp.asarray(labels[index])

    for turn in range(settings.rounds):
        for _ in range(settings.train_steps):
            x, y = batch(next(train_order))
            state, _ = train(state, locked(params, x, y), y)
        opt_state, value = optimizer.init(params), jnp.zeros(())
        for _ in range(settings.passes * (len(images) // size)):
            params, opt_state, value = improve(params, opt_state, state.variables, *batch(next(lock_order)))
        correct = [
            accuracy(module, state.variables, locked(params, *batch(index)), labels[index], batch_size=size)
            for index in (next(lock_order) for _ in range(len(images) // size))
        ]
        figures = {"loss": float(value), "accuracy": float(np.mean(correct))}
        report("lock", turn + 1, settings.rounds, figures)
        if figures["accuracy"] > settings.stop_accuracy:
            break
    return params


@kept
def _programs(
    module: Any, lock: Callable[..., jax.Array], project: Callable[..., Any], learning_rate: float
) -> tuple[optax.GradientTransformation, Callable[..., Any], Callable[..., jax.Array]]:
    """The lock's optimizer, a step of it against a network, and locked images of uint8 ones."""
    optimizer = optax.sgd(learning_rate, momentum=0.9)

    def improve(params, opt_state, weights, x, y):
        def loss(params):
            return error_minimising(module.apply(weights, lock(params, decode(x), y), train=False), y).mean()

        value, grad = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grad, opt_state)
        return project(optax.apply_updates(params, updates)), opt_state, value

    return optimizer, compiled(improve), jax.jit(lambda params, x, y: lock(params, decode(x), y))


def release_locked(
    images: np.ndarray,
    labels: np.ndarray,
    lock: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    eps: float,
    batch_size: int = 1000,
) -> np.ndarray:
    """Locked images on the 8-bit grid, uint8 [N, H, W, C].

    Args:
        images: originals, uint8 [N, H, W, C].
        labels: int32 [N].
        lock: (x float [B, H, W, C], y int32 [B]) -> g_y(x).
        eps: the budget, L-infinity, in units of [0, 1].
        batch_size: images at a time, for memory alone.
    """
    released = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        x = decode(jnp.asarray(part))
        delta = lock(x, jnp.asarray(labels[start : start + batch_size])) - x
        released.append(release(part, np.asarray(delta), eps=eps, norm="linf"))
    return np.concatenate(released)
