"""The trajectory theta_0 ... theta_T of a network: snapshots of its variables, stacked so that one is an index away."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ugejax.data.stream import Images
from ugejax.training.loop import fit
from ugejax.training.recipe import Recipe
from ugejax.training.step import TrainState


class Snapshots(Protocol):
    """Where snapshots of a training are kept, by the number of epochs done: `ugejax.app.checkpoint.StepCheckpoints`."""

    def steps(self) -> list[int]:
        """The numbers that are kept, ascending."""
        ...

    def save(self, step: int, tree: Any) -> None:
        """Keep a pytree of arrays under a number."""
        ...

    def restore(self, step: int, like: Any) -> Any:
        """The pytree of that number, which is built like `like`."""
        ...


class InMemory:
    """`Snapshots` that end with the process."""

    def __init__(self):
        """Nothing is kept yet."""
        self._kept: dict[int, Any] = {}

    def steps(self) -> list[int]:
        """The numbers that are kept, ascending."""
        return sorted(self._kept)

    def save(self, step: int, tree: Any) -> None:
        """Keep a copy, since a training reuses the buffers of its state."""
        self._kept[step] = jax.tree.map(jnp.copy, tree)

    def restore(self, step: int, like: Any) -> Any:
        """What was kept."""
        return self._kept[step]


def record_trajectory(
    step: Callable[..., Any],
    state: TrainState,
    images: jax.Array | Images,
    labels: jax.Array,
    recipe: Recipe,
    key: jax.Array,
    checkpoints: Snapshots | None = None,
    *,
    snapshots: int,
    report: Callable[[int, int, float], None] = lambda epoch, epochs, loss: None,
) -> Any:
    """Train by the recipe and keep snapshots: theta_0, then evenly spaced over the epochs, the end left out.

    A snapshot is the whole training state, so that where they are kept on disk a run that was cut off goes on from its
    last one.

    Args:
        step: from `make_train_step`.
        state: the state to start from.
        images: uint8 or float32 [N, H, W, C]; a stream is read batch by batch.
        labels: int32 [N].
        recipe: how to train.
        key: PRNG key of order and augmentation.
        checkpoints: where the snapshots go; must keep all steps. None keeps them in memory.
        snapshots: number of snapshots, at least 1; no more than one an epoch.
        report: called after every epoch with its number, the last epoch's and the mean training loss.

    Returns:
        The network's variables with a leading axis over the snapshots.
    """
    checkpoints = InMemory() if checkpoints is None else checkpoints
    wanted = sorted({i * recipe.epochs // snapshots for i in range(snapshots)})

    def keep(epoch: int, current: TrainState, loss: float) -> None:
        if epoch in wanted:
            checkpoints.save(epoch, current)
        report(epoch, wanted[-1], loss)

    if done := checkpoints.steps():
        state = checkpoints.restore(done[-1], state)
    else:
        checkpoints.save(0, state)
    fit(step, state, images, labels, dataclasses.replace(recipe, epochs=wanted[-1]), key, after_epoch=keep)
    kept = [checkpoints.restore(epoch, state).variables for epoch in wanted]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def snapshot(trajectory: Any, index: jax.Array | int) -> Any:
    """theta_t: the variables of one snapshot, by an index that may be traced."""
    return jax.tree.map(lambda leaf: leaf[index], trajectory)
