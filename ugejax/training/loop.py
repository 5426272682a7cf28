"""The loop over epochs, the same on every backend in what it computes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from ugejax.training.recipe import Recipe
from ugejax.training.step import TrainState, decode


@dataclass(frozen=True)
class History:
    """What a training run reports: mean training loss and, where test images were given, test accuracy per epoch."""

    loss: list[float]
    accuracy: list[float]


def run_steps(step: Callable[..., Any]) -> Callable[..., Any]:
    """Many consecutive steps as one call: run(state, images, labels, order, key, count) -> (state, losses stacked).

    On an accelerator `lax.scan` saves a dispatch a step. On a CPU a scan over convolutions is several times slower than
    a Python loop over the compiled step (jax issue 12868), so the loop is chosen by backend; both give the same
    numbers. The state's buffers are donated. Of a `jax.tree_util.Partial` the bound arrays are given to the compiled
    program; those that a function closes over would be constants in it.
    """
    step = step if isinstance(step, Partial) else Partial(step)
    if jax.default_backend() == "cpu":

        @functools.partial(jax.jit, donate_argnums=1)
        def one_step(step, *arguments):
            return step(*arguments)

        def loop(state, images, labels, order, key, count):
            losses = []
            for _ in range(count):
                state, loss = one_step(step, state, images, labels, order, key)
                losses.append(loss)
            return state, jax.tree.map(lambda *values: jnp.stack(values), *losses)

        return loop

    @functools.partial(jax.jit, static_argnames="count", donate_argnums=1)
    def scan(step, state, images, labels, order, key, count):
        return jax.lax.scan(lambda s, _: step(s, images, labels, order, key), state, length=count)

    return functools.partial(scan, step)


def epoch_order(key: jax.Array, epoch: int, n: int) -> jax.Array:
    """The order of the n training images in an epoch, int32 [n]; resuming needs no more than the epoch's number."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n)


def fit(
    step: Callable[..., Any],
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    recipe: Recipe,
    key: jax.Array,
    *,
    after_epoch: Callable[[int, TrainState, float], None] = lambda epoch, state, loss: None,
) -> TrainState:
    """Train from the state's step to the end of the recipe, epoch by epoch.

    Args:
        step: from `make_train_step`.
        state: a state between epochs: fresh, or restored from a checkpoint.
        images: uint8 or float32 [N, H, W, C], resident on the device.
        labels: int32 [N] or soft float32 [N, K].
        recipe: for its epochs and batch size.
        key: PRNG key of order and augmentation.
        after_epoch: called with the number of epochs done, the state and the epoch's mean loss. The state's buffers are
            reused by the next step: copy what has to stay.
    """
    run, count = run_steps(step), recipe.steps_per_epoch(len(images))
    order_key, step_key = jax.random.split(key)
    state = jax.tree.map(jnp.array, state)  # the caller's buffers stay his: the loop donates its own
    for epoch in range(int(state.step) // count, recipe.epochs):
        order = epoch_order(order_key, epoch, len(images))
        state, losses = run(state, images, labels, order, step_key, count)
        after_epoch(epoch + 1, state, float(losses.mean()))
    return state


@functools.cache
def _predictor(module: Any) -> Callable[..., jax.Array]:
    return jax.jit(lambda variables, x: module.apply(variables, decode(x), train=False).argmax(axis=-1))


def accuracy(module: Any, variables: Any, images: Any, labels: Any, *, batch_size: int = 500) -> float:
    """Fraction of images [N, H, W, C] (uint8 or float in [0, 1]) that the network gives their label, in eval mode."""
    predict, correct = _predictor(module), 0
    for start in range(0, len(images), batch_size):
        x, y = images[start : start + batch_size], np.asarray(labels[start : start + batch_size])
        if len(x) < batch_size and start:  # one compiled shape: fill the last batch up, count its own images only
            x = jnp.concatenate([x, jnp.zeros((batch_size - len(x), *x.shape[1:]), x.dtype)])
        correct += int((np.asarray(predict(variables, x))[: len(y)] == y).sum())
    return correct / len(images)
