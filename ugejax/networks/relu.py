"""The one ReLU of all networks, as a selection: XLA for CPU fuses it only where that pays."""

import jax
import jax.numpy as jnp


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with derivative 0 at 0 and NaN where x is, as `jax.nn.relu` has it.

    XLA for CPU takes a maximum with a constant for free and computes it, and the normalisation before it, anew in the
    transpose that the derivative of the next convolution by its kernel needs, where the values are read across memory.
    A selection between two arrays it computes once.
    """
    return jnp.where(x <= 0, 0, x)
