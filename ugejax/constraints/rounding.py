"""From a float perturbation to released 8-bit images, without leaving its bounds.

Bounds become whole grey levels, ``ceil(255 lower)`` to ``floor(255 upper)``, and the sum is taken in integers, so that
``|x_u - x| <= floor(255 eps)`` holds exactly for bounds of -eps and eps.

A non-finite delta is not refused here, where values may be traced: an infinity goes to its bound and NaN leaves the
pixel as it is in the original. Check ``jnp.isfinite`` before.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ugejax.constraints.feasible import allowed
from ugejax.views import BlindSet

# Grey levels by which 255 * bound may miss a whole number and still count as it: 255 * float32(8 / 255) may come out as
# 7.9999995 and means 8. The product of a float32 in [-1, 1] and 255 is off by at most 3e-5.
_GREY_LEVEL_TOLERANCE = 1e-4


def stochastic_round_to_8bit(
    key: jax.Array, x_u8: jax.Array, delta: jax.Array, *, lower: ArrayLike, upper: ArrayLike
) -> jax.Array:
    """Released images x + delta with delta rounded to whole grey levels at random, without bias.

    ``255 delta`` becomes its floor or its ceiling, the ceiling with probability its fractional part. Rounding to
    nearest turns a delta that depends on the class into a residue that depends on the class, which networks learn;
    this residue has mean zero. The mean is exact wherever floor and ceiling both lie within the bounds and the sum
    within [0, 255].

    Args:
      key: PRNG key; the same key gives the same pixels.
      x_u8: originals, uint8 [..., H, W, C].
      delta: perturbation in units of [0, 1], float, shaped like x_u8.
      lower: least delta allowed, at most 0; a scalar or an array broadcastable to delta.
      upper: largest delta allowed, at least 0; a scalar or an array broadcastable to delta.

    Returns:
      x_u, uint8, shaped like x_u8.

    Raises:
      TypeError: x_u8 is not uint8.
    """
    levels = _grey_levels(delta)
    below = jnp.floor(levels)
    goes_up = jax.random.uniform(key, levels.shape) < levels - below
    return _add_within(x_u8, below + goes_up, lower, upper)


def round_within(
    keys: jax.Array, x_u8: jax.Array, delta: jax.Array, view: BlindSet, *, eps: float, norm: str
) -> jax.Array:
    """Released images x + delta of a batch, each rounded so that it stays in its feasible set.

    Args:
      keys: PRNG keys [B], one for each image's rounding at random.
      x_u8: originals, uint8 [B, H, W, C].
      delta: feasible perturbations in units of [0, 1], float [B, H, W, C].
      view: what the authorized networks are blind to.
      eps: budget in units of [0, 1].
      norm: "linf" or "l2" (per image).

    Returns:
      uint8 [B, H, W, C].
    """
    x = x_u8.astype(jnp.float32) / 255
    lower, upper = allowed(x, view, eps=eps, norm=norm)
    shorter = jnp.trunc(delta * 255) / 255  # what cannot leave a ball by rounding
    if view.patch is None and view.blind:  # cells hold whole levels: no residue
        return round_to_8bit(x_u8, shorter if norm == "l2" else delta, lower=lower, upper=upper)
    lower, upper = jnp.broadcast_to(lower, x.shape), jnp.broadcast_to(upper, x.shape)
    draw = jax.vmap(lambda k, x, d, lo, up: stochastic_round_to_8bit(k, x, d, lower=lo, upper=up))

    def at_random(delta):
        if view.draws == 1:
            return draw(keys, x_u8, delta, lower, upper)
        # Rounding gives an image another blind set now and then: the first draw that does not is taken; where none is
        # left, the image stays as it was.
        chosen = x_u8
        for i in reversed(range(view.draws)):
            drawn = draw(jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys), x_u8, delta, lower, upper)
            kept = view.keeps(x, drawn.astype(jnp.float32) / 255)
            chosen = jnp.where(kept[:, None, None, None], drawn, chosen)
        return chosen

    if norm != "l2":
        return at_random(delta)
    # Rounding at random adds up to a quarter of a squared level to each value on average. The few images that leave the
    # ball all the same are rounded towards zero, and all of them where the ball is that small.
    room = max(0.0, 1 - math.prod(x.shape[1:]) / 4 / (255 * eps) ** 2)
    rounded = at_random(math.sqrt(room) * delta)
    moved = (rounded.astype(jnp.float32) - x_u8) / 255
    outside = jnp.sum(moved**2, axis=(1, 2, 3), keepdims=True) > eps**2
    return jnp.where(outside | (room == 0), round_to_8bit(x_u8, shorter, lower=lower, upper=upper), rounded)


def round_to_8bit(x_u8: jax.Array, delta: jax.Array, *, lower: ArrayLike, upper: ArrayLike) -> jax.Array:
    """Released images x + delta with delta rounded to the nearest whole grey level, halves to even.

    For the perturbations that must not be dithered.

    Args:
      x_u8: originals, uint8 [..., H, W, C].
      delta: perturbation in units of [0, 1], float, shaped like x_u8.
      lower: least delta allowed, at most 0; a scalar or an array broadcastable to delta.
      upper: largest delta allowed, at least 0; a scalar or an array broadcastable to delta.

    Returns:
      x_u, uint8, shaped like x_u8.

    Raises:
      TypeError: x_u8 is not uint8.
    """
    return _add_within(x_u8, jnp.round(_grey_levels(delta)), lower, upper)


def _grey_levels(delta: jax.Array) -> jax.Array:
    # At least float32: in half precision 255 * delta has no fraction left to round by.
    return 255 * delta.astype(jnp.promote_types(delta.dtype, jnp.float32))


def _add_within(x_u8: jax.Array, levels: jax.Array, lower: ArrayLike, upper: ArrayLike) -> jax.Array:
    if x_u8.dtype != jnp.uint8:
        raise TypeError(f"originals must be uint8, not {x_u8.dtype}")
    least = jnp.ceil(255 * jnp.asarray(lower) - _GREY_LEVEL_TOLERANCE)
    most = jnp.floor(255 * jnp.asarray(upper) + _GREY_LEVEL_TOLERANCE)
    # Which integer NaN becomes depends on the machine, hence the explicit 0.
    levels = jnp.where(jnp.isnan(levels), 0, jnp.clip(levels, least, most)).astype(jnp.int32)
    return jnp.clip(x_u8.astype(jnp.int32) + levels, 0, 255).astype(jnp.uint8)
