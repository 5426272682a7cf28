"""Surrogate networks, trained by the project's own steps: beforehand on clean images, or jointly with the noise."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.baselines.pgd import Gradient, make_gradient
from ugejax.compiler import compiled, kept
from ugejax.losses import error_minimising
from ugejax.networks import build, initial_variables
from ugejax.reporting import Report
from ugejax.training import Batch, Recipe, TrainState, default_recipe, fit, initial_state, make_train_step, prepared
from ugejax.training.loop import epoch_order


def clean_checkpoints(
    key: jax.Array,
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    epochs: int,
    transforms: tuple[str, ...] = (),
    checkpoints: int = 1,
    report: Report = lambda *_: None,
) -> tuple[Any, list[Any]]:
    """A network trained on the originals by its default recipe, and its variables along the way.

    Args:
        key: PRNG key of initialisation, order and augmentation.
        name: short name of the network.
        images: uint8 [N, H, W, C].
        labels: int32 [N].
        num_classes: number of logits.
        epochs: passes over the images.
        transforms: augmentation, names in `ugejax.transforms.TRANSFORMS`.
        checkpoints: how many variables to keep, evenly spaced over the epochs, the end always among them; no more than
            one an epoch.
        report: progress.

    Returns:
        (module, variables of each checkpoint in the order of training).
    """
    recipe = dataclasses.replace(default_recipe(name, epochs=epochs), augment=transforms)
    init_key, train_key = jax.random.split(key)
    module = build(name, num_classes)
    optimizer = recipe.build_optimizer(len(images))
    state = initial_state(_initialise(module, init_key, images), optimizer)
    wanted = {-(-(i + 1) * epochs // checkpoints) for i in range(checkpoints)}
    kept = []

    def after_epoch(epoch: int, current: TrainState, loss: float) -> None:
        if epoch in wanted:
            kept.append(jax.tree.map(jnp.array, current.variables))  # the next step reuses the state's buffers
        report("surrogate", epoch, epochs, {"loss": loss})

    fit(
        make_train_step(module, optimizer, recipe), state, jnp.asarray(images), jnp.asarray(labels), recipe, train_key,
        after_epoch=after_epoch,
    )  # fmt: skip
    return module, kept


def joint_surrogate(
    key: jax.Array,
    name: str,
    images: np.ndarray,
    num_classes: int,
    *,
    batch_size: int,
    decay_at: tuple[int, ...] = (),
) -> tuple[Any, TrainState, Callable[..., tuple[TrainState, jax.Array]]]:
    """An untrained network and a step that trains it on whatever batch it is handed.

    The optimizer is that of the network's default recipe with its rate held, for the number of steps is not known
    beforehand, and the gradient clipped to norm 5, as in the code of EM.

    Args:
        key: PRNG key of the initialisation.
        name: short name of the network.
        images: uint8 [N, H, W, C], from which it takes what a network takes before it is trained.
        num_classes: number of logits.
        batch_size: images of every batch.
        decay_at: steps at which the rate is divided by 10.

    Returns:
        (module, state, train): train(state, x float [B, H, W, C], y int32 [B] or soft float32 [B, K]) -> (state, loss).
    """
    recipe = dataclasses.replace(default_recipe(name), batch_size=batch_size, shift=0)
    module, optimizer = build(name, num_classes), _steady(recipe, decay_at)
    state = initial_state(_initialise(module, key, images), optimizer)
    step = _compiled_step(module, optimizer, recipe)
    unused = jax.random.key(0)  # the recipe augments nothing

    def train(state: TrainState, x: jax.Array, y: jax.Array) -> tuple[TrainState, jax.Array]:
        return step(state, Batch(x, y), unused)

    return module, state, train


@kept
def error_gradient(module: Any) -> Gradient:
    """The gradient of a network's cross-entropy, see `make_gradient`; the context is its variables."""

    def loss(weights, key, x_u, y):
        return error_minimising(module.apply(weights, x_u, train=False), y)

    return make_gradient(loss)


def shuffled_batches(key: jax.Array, n: int, size: int) -> Iterator[np.ndarray]:
    """Endless batches of indices, int [size], size at most n: every epoch has an order of its own.

    An incomplete last batch of an epoch is left out.
    """
    for epoch in itertools.count():
        order = np.asarray(epoch_order(key, epoch, n))
        for start in range(0, n - size + 1, size):
            yield order[start : start + size]


def _initialise(module: Any, key: jax.Array, images: np.ndarray) -> Any:
    return prepared(module, initial_variables(module, key, images.shape[1:]), images)


@kept
def _compiled_step(module: Any, optimizer: optax.GradientTransformation, recipe: Recipe) -> Callable[..., Any]:
    return compiled(make_train_step(module, optimizer, recipe))


@kept
def _steady(recipe: Recipe, decay_at: tuple[int, ...]) -> optax.GradientTransformation:
    rate = optax.piecewise_constant_schedule(recipe.learning_rate, dict.fromkeys(decay_at, 0.1))
    return optax.chain(optax.clip_by_global_norm(5.0), recipe.rule(rate))
