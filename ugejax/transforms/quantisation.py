"""Rounding that lets a gradient through, and bit-depth reduction."""

import jax
import jax.numpy as jnp


def round_straight_through(x: jax.Array) -> jax.Array:
    """The nearest whole numbers, with the gradient of the identity.

    Bengio, Leonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013 (arXiv
    1308.3432), the straight-through estimator. True rounding has gradient 0 almost everywhere.
    """
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def round_cubic(x: jax.Array) -> jax.Array:
    """A smooth neighbour of rounding, ``round(x) + (x - round(x))^3``, with its own gradient ``3 (x - round(x))^2``.

    At most 1/8 from the nearest whole number. Shin and Song, JPEG-resistant Adversarial Images, NIPS 2017 Workshop on
    Machine Learning and Computer Security, section 3.
    """
    whole = jax.lax.stop_gradient(jnp.round(x))
    return whole + (x - whole) ** 3


def bit_depth(x: jax.Array, *, bits: int) -> jax.Array:
    """Bit-depth reduction to 2^bits levels, evenly spaced over [0, 1], straight-through.

    ``round((2^bits - 1) x) / (2^bits - 1)``: Xu, Evans and Qi, Feature Squeezing, NDSS 2018 (arXiv 1704.01155).

    Args:
      x: float [..., H, W, C] in [0, 1].
      bits: bits left of a channel's 8, at least 1.

    Returns:
      Shaped like x, in [0, 1].
    """
    steps = 2**bits - 1
    return round_straight_through(steps * x) / steps
