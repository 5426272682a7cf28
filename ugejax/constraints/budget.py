"""How large a perturbation may be: norms, projections onto their balls, and the box of valid images.

A perturbation delta is float [..., H, W, C] in units of [0, 1]; its norm is per example, over the last three axes. It
is signed, and only ``x + delta`` is ever clipped to the range of images, never delta itself.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_IMAGE_AXES = (-3, -2, -1)


class Norms(NamedTuple):
    """Norms of perturbations per example, in units of [0, 1]."""

    linf: jax.Array
    l2: jax.Array


def amplitude(eps: float, norm: str, shape: tuple[int, ...]) -> float:
    """How far a value of an image [H, W, C] may move where all move alike: eps, for norm "l2" eps / sqrt(H W C)."""
    return eps if norm == "linf" else eps / math.sqrt(math.prod(shape))


def project_linf(delta: jax.Array, eps: ArrayLike) -> jax.Array:
    """Nearest point of the L-infinity ball: every value clipped to [-eps, eps].

    Args:
      delta: float [..., H, W, C].
      eps: radius in units of [0, 1], at least 0; a scalar, or one per example [...].

    Returns:
      Shaped like delta. NaN stays NaN.
    """
    eps = _per_example(eps, delta.dtype)
    return jnp.clip(delta, -eps, eps)


def project_l2(delta: jax.Array, eps: ArrayLike) -> jax.Array:
    """Nearest point of the L2 ball: an example whose norm exceeds eps is scaled down to it, any other is left as it is.

    Args:
      delta: float [..., H, W, C].
      eps: radius in units of [0, 1], at least 0; a scalar, or one per example [...].

    Returns:
      Shaped like delta; the norm is at most eps up to rounding (about 1e-6 of it). The gradient is finite at delta =
      0. An example with a NaN or an infinity holds NaN.
    """
    eps = _per_example(eps, delta.dtype)
    squared = jnp.sum(jnp.square(delta), axis=_IMAGE_AXES, keepdims=True)
    outside = squared > jnp.square(eps)
    # Inside the ball the square root gets 1 in place of a possible 0, whose gradient would be infinite.
    return delta * jnp.where(outside, eps / jnp.sqrt(jnp.where(outside, squared, 1.0)), 1.0)


def box(delta: jax.Array, x: jax.Array) -> jax.Array:
    """Nearest delta for which x + delta is an image: clipped to [-x, 1 - x].

    Args:
      delta: float [..., H, W, C].
      x: originals, float in [0, 1], broadcastable to delta.

    Returns:
      Shaped like delta; x + result lies in [0, 1] exactly.
    """
    return jnp.clip(delta, -x, 1 - x)


def realised(delta: jax.Array) -> Norms:
    """Norms that perturbations have; of a release, ``delta = (x_u - x) / 255`` with both widened from uint8 first.

    Args:
      delta: float [..., H, W, C].

    Returns:
      L-infinity and L2 norm of each example, float [...].
    """
    return Norms(
        linf=jnp.max(jnp.abs(delta), axis=_IMAGE_AXES),
        l2=jnp.sqrt(jnp.sum(jnp.square(delta), axis=_IMAGE_AXES)),
    )


def _per_example(eps: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    return jnp.asarray(eps, dtype)[..., None, None, None]
