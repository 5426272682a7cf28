"""Learnability Lock, linear: every class has a weight and a bias for each value of its images.

Peng, Chen, Learnability Lock, ICLR 2022 (arXiv 2202.03576): g_y(x) = W_y * x + b_y, element by element,
with W in [1 - eps/2, 1 + eps/2] and b in [-eps/2, eps/2], so that |g_y(x) - x| <= eps for x in [0, 1]. The key is (W,
b): `unlock` is the inverse. See `learnability_lock` for how it is learned.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.baselines.learnability_lock import LockSettings, learn_lock, release_locked
from ugejax.baselines.method import BaselineMethod
from ugejax.compiler import kept
from ugejax.reporting import Report
from ugejax.training import decode


class LinearLock(NamedTuple):
    """The key: weight and bias, float32 [K, H, W, C] each."""

    weight: jax.Array
    bias: jax.Array


def lock(params: LinearLock, x: jax.Array, y: jax.Array) -> jax.Array:
    """g_y(x), float [B, H, W, C], of x float [B, H, W, C] in [0, 1]; up to eps beyond [0, 1]."""
    return params.weight[y] * x + params.bias[y]


def unlock(params: LinearLock, released: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Originals, uint8 [N, H, W, C], from released uint8 images and their labels.

    Exact to one grey level wherever the lock stayed within [0, 1]; a value that was clipped there is off by up to the
    budget, for the release is 8-bit.
    """
    x = (decode(jnp.asarray(released)) - params.bias[labels]) / params.weight[labels]
    return np.asarray(jnp.round(255 * jnp.clip(x, 0, 1)).astype(jnp.uint8))


def learn(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: LockSettings,
    report: Report = lambda *_: None,
) -> LinearLock:  # fmt: skip
    """The key; the same arguments give the same key, so who has made a release can make its key again."""
    shape = (num_classes, *images.shape[1:])
    return learn_lock(
        key, images, labels, num_classes,
        lock=lock, params=LinearLock(jnp.ones(shape), jnp.zeros(shape)), project=_projection(eps), settings=settings,
        report=report,
    )  # fmt: skip


@kept
def _projection(eps: float) -> Callable[[LinearLock], LinearLock]:
    """Brings weights and biases within the budget."""

    def project(params):
        return LinearLock(jnp.clip(params.weight, 1 - eps / 2, 1 + eps / 2), jnp.clip(params.bias, -eps / 2, eps / 2))

    return project


def learnability_lock_linear(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: LockSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Linear Learnability Lock; see `Baseline`."""
    params = learn(key, images, labels, num_classes, eps=eps, settings=settings, report=report)
    return release_locked(images, labels, functools.partial(lock, params), eps=eps)


LEARNABILITY_LOCK_LINEAR = BaselineMethod(
    run=learnability_lock_linear,
    settings=LockSettings(),
    summary="invertible linear lock per class (Peng & Chen 2022)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
