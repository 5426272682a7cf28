"""Several networks of one architecture trained at the same time, in one program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.parallel import on_all_devices
from ugejax.training.loop import check_finite, on_resident, run_steps, training_order
from ugejax.training.recipe import Recipe
from ugejax.training.step import TrainState

# Networks in one program: their activations lie on the device at the same time.
MOST = 8


def fit_together(
    step: Callable[..., Any],
    states: Sequence[TrainState],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    recipe: Recipe,
    keys: Sequence[jax.Array],
    *,
    after_epoch: Callable[[int, list[TrainState]], None] = lambda epoch, states: None,
) -> list[TrainState]:
    """Train T networks by one recipe, each as `fit` trains it alone: to rounding the result is the same.

    The step is mapped over the networks by `jax.vmap`, so that an accelerator which one small network does not fill
    works on all of them. Not for a CPU: convolutions with weights of their own become grouped ones there, which XLA
    does more slowly than one network after the other (`experiments.bench.together`).

    Args:
        step: from `make_train_step`, of all of them.
        states: fresh ones, which differ in values only.
        images: uint8 or float32 [N, H, W, C] for each network, of one shape and dtype. Of an array that several share
            there is one copy on the device.
        labels: int32 [N] or soft float32 [N, K] for each, likewise.
        recipe: for its epochs, batch size and mirroring.
        keys: PRNG key of order and augmentation, for each.
        after_epoch: called with the number of epochs done and the states.

    Returns:
        The T trained states.

    Raises:
        UserError: a loss was not finite in a step; it tells which network's.
        OutOfMemory: the device's memory does not hold a step of all.
    """
    n = len(images[0])
    pairs = [(id(x), id(y)) for x, y in zip(images, labels, strict=True)]
    firsts = [pairs.index(pair) for pair in dict.fromkeys(pairs)]
    held = on_all_devices(tuple(_end_to_end([arrays[first] for first in firsts]) for arrays in (images, labels)))
    begins = n * jnp.array([firsts.index(pairs.index(pair)) for pair in pairs])
    order_keys, step_keys = jnp.stack([jax.random.split(key) for key in keys]).T
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    # Each has its own part of the images in its order.
    size = min(recipe.batch_size, n)
    run = run_steps(jax.vmap(on_resident(step, size), in_axes=(0, None, None, 0, 0)), size)
    for epoch in range(recipe.epochs):
        orders = jax.vmap(lambda key, epoch=epoch: training_order(key, epoch, n, recipe))(order_keys)
        orders = jnp.where(orders < 0, orders - begins[:, None], orders + begins[:, None])  # ~(i + b) is ~i - b
        state, losses = run(state, *held, orders, step_keys, recipe.steps_per_epoch(n))
        check_finite(
            {f"the training loss of network {place + 1}": losses[:, place] for place in range(len(states))}, epoch + 1
        )
        after_epoch(epoch + 1, _apart(state, len(states)))
    return _apart(state, len(states))


def _end_to_end(arrays: list[np.ndarray]) -> jax.Array:
    return jnp.asarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def _apart(state: TrainState, number: int) -> list[TrainState]:
    return [jax.tree.map(lambda leaf, place=place: leaf[place], state) for place in range(number)]
