"""Adversarial training: each batch is replaced by a worse one, so that what is easily learned teaches nothing."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ugejax.compiler import on_cpu
from ugejax.transforms.ueraser import ueraser


def pgd(
    losses_of_x: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    x: jax.Array,
    *,
    eps: float,
    step_size: float,
    steps: int,
) -> jax.Array:
    """Projected gradient ascent of the loss in the l_inf ball around x (Madry et al., ICLR 2018, arXiv 1706.06083).

    Args:
        losses_of_x: the loss of each image of a batch at the current weights.
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

    def step(_, adversarial):
        gradient = jax.grad(lambda x: losses_of_x(x).sum())(adversarial)
        return jnp.clip(adversarial + step_size * jnp.sign(gradient), low, high)

    if not on_cpu():
        return jax.lax.fori_loop(0, steps, step, adversarial)  # which compiles one step
    for number in range(steps):  # unrolled: a compiled loop over convolutions is several times slower on a CPU
        adversarial = step(number, adversarial)
    return adversarial


def worst_ueraser(
    losses_of_x: Callable[[jax.Array], jax.Array], key: jax.Array, x: jax.Array, *, copies: int
) -> jax.Array:
    """Of several augmented copies of each image the one with the highest loss.

    Qin et al., Learning the Unlearnable, 2023 (arXiv 2303.15127), UEraser-max: their step minimises the mean of these
    highest losses. They find them in train mode; here batch norm chooses in eval mode and trains on the chosen copies.

    Args:
        losses_of_x: the loss of each image of a batch at the current weights.
        key: PRNG key of the augmentations.
        x: float [B, H, W, C] in [0, 1].
        copies: how many the highest is taken of.

    Returns:
        Shaped like x, each image augmented by `ueraser`.
    """
    augmented = ueraser(key, jnp.concatenate([x] * copies)).reshape(copies, *x.shape)
    worst = jax.vmap(losses_of_x)(augmented).argmax(axis=0)
    return augmented[worst, jnp.arange(len(x))]
