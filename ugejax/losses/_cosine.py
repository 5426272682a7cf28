"""The cosine distance that gradients and features share."""

import jax
import jax.numpy as jnp

# A squared norm at or below this counts as zero: its direction is rounding noise, and the gradient, of size 1 / norm,
# would explode.
ZERO_SQUARED_NORM = 1e-24


def one_minus_cosine(a: jax.Array, b: jax.Array, *, axis: int) -> jax.Array:
    """Cosine distance ``1 - <a, b> / (|a| |b|)`` along ``axis``, in [0, 2].

    Computed as ``|a/|a| - b/|b||^2 / 2``, which is the same number without the cancellation near 0: exactly 0 for
    equal vectors. A zero vector has no direction: two of them are at distance 0, one of them at distance 1 from
    anything else, and the gradient there is 0 rather than NaN.
    """
    a_unit, a_is_zero = _unit(a, axis)
    b_unit, b_is_zero = _unit(b, axis)
    distance = 0.5 * jnp.sum(jnp.square(a_unit - b_unit), axis=axis)
    return jnp.where(a_is_zero != b_is_zero, 1.0, distance)


def _unit(a: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """``a / |a|`` along ``axis`` (0 where a is zero), and where a is zero (without ``axis``)."""
    squared = jnp.sum(jnp.square(a), axis=axis, keepdims=True)
    is_zero = squared <= ZERO_SQUARED_NORM
    # Both `where`s are needed: the gradient passes through the branch not taken as well, and 0 * inf is NaN.
    norm = jnp.sqrt(jnp.where(is_zero, 1.0, squared))
    return jnp.where(is_zero, 0.0, a) / norm, jnp.squeeze(is_zero, axis)
