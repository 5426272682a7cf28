"""Adversarial training: each batch is replaced by its worst neighbour, so that small perturbations teach nothing."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def pgd(
    loss_of_x: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    x: jax.Array,
    *,
    eps: float,
    step_size: float,
    steps: int,
) -> jax.Array:
    """Projected gradient ascent of the loss in the l_inf ball around x (Madry et al., ICLR 2018, arXiv 1706.06083).

    Args:
        loss_of_x: mean loss of a batch at the current weights.
        key: PRNG key of the uniform random start.
        x: float [B, H, W, C] in [0, 1].
        eps: radius in units of [0, 1].
        step_size: of the signed gradient, in units of [0, 1].
        steps: number of gradients.

    Returns:
        Shaped like x, within eps of it and in [0, 1].
    """
    low, high = jnp.maximum(x - eps, 0), jnp.minimum(x + eps, 1)
    adversarial = jnp.clip(x + jax.random.uniform(key, x.shape, x.dtype, -eps, eps), low, high)
    for _ in range(steps):  # unrolled: a compiled loop over convolutions is several times slower on a CPU
        adversarial = jnp.clip(adversarial + step_size * jnp.sign(jax.grad(loss_of_x)(adversarial)), low, high)
    return adversarial
