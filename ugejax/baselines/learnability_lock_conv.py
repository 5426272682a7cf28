"""Learnability Lock, convolutional: every class has a residual network with a bounded, contracting branch.

Peng, Chen, Learnability Lock, ICLR 2022 (arXiv 2202.03576): g_y(x) = x + eps tanh(h_y(x)) with h_y three
convolutions with ReLU between them, kept a contraction, so that the fixed-point iteration x <- x_u - eps tanh(h_y(x))
inverts g_y (invertible residual networks, Behrmann et al., ICML 2019, arXiv 1811.00995, theorem 1).

The published code normalises every layer to spectral norm 0.97 by power iteration. Since eps tanh alone scales by eps,
more is possible: here the product of upper bounds of the layers' norms is kept at 1 / (2 eps), so that an iteration at
least halves the error whatever the image. The bound of a k x k convolution is k times the norm of its kernel as a
matrix [k k C_in, C_out], for a value is part of at most k k neighbourhoods. The networks are smaller than the published
ones (16 channels, published 32 to 256).
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

CHANNELS = 16
SIDE = 3


class ConvLock(NamedTuple):
    """The key: kernels of the three convolutions of every class, float32, those of 3x3 over gathered neighbourhoods.

    Attributes:
        enter: [K, 9 C, 16].
        mix: [K, 16, 16], a 1x1 convolution.
        leave: [K, 9 * 16, C].
    """

    enter: jax.Array
    mix: jax.Array
    leave: jax.Array


def lock(params: ConvLock, x: jax.Array, y: jax.Array, *, eps: float) -> jax.Array:
    """g_y(x), float [B, H, W, C], of x float [B, H, W, C] in [0, 1]; up to eps beyond [0, 1]."""
    return x + _branch(params, x, y, eps)


def unlock(params: ConvLock, released: np.ndarray, labels: np.ndarray, *, eps: float, steps: int = 16) -> np.ndarray:
    """Originals, uint8 [N, H, W, C], from released uint8 images and their labels.

    Approximate: every step of the fixed-point iteration halves the error at least, from eps on. What 8 bits rounded
    away and what was clipped to [0, 1] stays lost, in the pixel and a little in its neighbours.
    """
    x_u, y = decode(jnp.asarray(released)), jnp.asarray(labels)
    x = x_u
    for _ in range(steps):
        x = x_u - _compiled_branch(params, x, y, eps)
    return np.asarray(jnp.round(255 * jnp.clip(x, 0, 1)).astype(jnp.uint8))


def contract(params: ConvLock, *, eps: float) -> ConvLock:
    """The kernels times one factor per class, where eps times the bound on the norm of h_y would be more than 1/2."""
    bounds = [jnp.linalg.norm(kernel, ord=2, axis=(1, 2)) for kernel in params]
    product = SIDE**2 * jnp.prod(jnp.stack(bounds), axis=0)
    factor = jnp.minimum(1, 0.5 / eps / jnp.maximum(product, 1e-12)) ** (1 / len(params))
    return ConvLock(*(kernel * factor[:, None, None] for kernel in params))


def learn(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: LockSettings,
    report: Report = lambda *_: None,
) -> ConvLock:  # fmt: skip
    """The key; the same arguments give the same key, so who has made a release can make its key again."""
    init_key, learn_key = jax.random.split(key)
    channels = images.shape[3]
    sizes = ((SIDE**2 * channels, CHANNELS), (CHANNELS, CHANNELS), (SIDE**2 * CHANNELS, channels))
    start = [
        jnp.sqrt(2 / fan_in) * jax.random.normal(own_key, (num_classes, fan_in, fan_out))
        for own_key, (fan_in, fan_out) in zip(jax.random.split(init_key, len(sizes)), sizes, strict=True)
    ]
    lock_within, project = _within(eps)
    return learn_lock(
        learn_key, images, labels, num_classes,
        lock=lock_within, params=project(ConvLock(*start)), project=project, settings=settings,
        report=report,
    )  # fmt: skip


@kept
def _within(eps: float) -> tuple[Callable[..., jax.Array], Callable[[ConvLock], ConvLock]]:
    """The lock and its contraction with a budget."""
    return functools.partial(lock, eps=eps), jax.jit(functools.partial(contract, eps=eps))


def learnability_lock_conv(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: LockSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """Convolutional Learnability Lock; see `Baseline`."""
    params = learn(key, images, labels, num_classes, eps=eps, settings=settings, report=report)
    return release_locked(images, labels, functools.partial(lock, params, eps=eps), eps=eps)


def _branch(params: ConvLock, x: jax.Array, y: jax.Array, eps: float) -> jax.Array:
    enter, mix, leave = (kernel[y] for kernel in params)  # every image has the kernels of its class
    z = jax.nn.relu(jnp.einsum("bhwi,bio->bhwo", _neighbourhoods(x), enter))
    z = jax.nn.relu(jnp.einsum("bhwi,bio->bhwo", z, mix))
    return eps * jnp.tanh(jnp.einsum("bhwi,bio->bhwo", _neighbourhoods(z), leave))


_compiled_branch = jax.jit(_branch)


def _neighbourhoods(x: jax.Array) -> jax.Array:
    """3x3 neighbourhoods with zero padding, [B, H, W, 9 C] of x [B, H, W, C]."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + height, j : j + width] for i in range(SIDE) for j in range(SIDE)], axis=-1
    )


LEARNABILITY_LOCK_CONV = BaselineMethod(
    run=learnability_lock_conv,
    settings=LockSettings(),
    summary="invertible convolutional lock per class (Peng & Chen 2022)",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
