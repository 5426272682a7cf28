"""Federated averaging in pure JAX: clients train by themselves, and their weights are averaged.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017 (arXiv
1602.05629), algorithm 1 with every client in every round (C = 1).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.batches import in_pieces
from ugejax.compiler import on_cpu
from ugejax.federated.shards import Shards
from ugejax.parallel import spread
from ugejax.training import Recipe, initial_state, make_train_step, prepared
from ugejax.training.loop import run_steps, take
from ugejax.training.mirror import alternate
from ugejax.training.together import MOST


def average(trees: Any, sizes: jax.Array) -> Any:
    """The mean of K pytrees, weighted by the clients' numbers of images: sum_k n_k / n w_k.

    Args:
        trees: a pytree of float [K, ...].
        sizes: n_k, [K]; at least one of them is not 0.

    Returns:
        A pytree of float [...].
    """
    shares = sizes / sizes.sum()
    highest = jax.lax.Precision.HIGHEST  # an accelerator would round the weights to some ten bits in every round
    return jax.tree.map(lambda leaf: jnp.tensordot(shares.astype(leaf.dtype), leaf, 1, precision=highest), trees)


def federate(
    module: Any,
    variables: Any,
    optimizer: optax.GradientTransformation,
    recipe: Recipe,
    images: jax.Array,
    labels: jax.Array,
    shards: Shards,
    key: jax.Array,
    *,
    rounds: int,
    after_round: Callable[[int, Any], None] = lambda done, variables: None,
) -> Any:
    """Train a network on the images of all clients, none of which leave their client.

    In a round every client starts from the shared weights with a fresh optimizer, trains by itself as
    `ugejax.training.fit` does, and hands its weights back. One with fewer images than a batch sees them several times
    in it.

    Args:
        module: network as for `make_train_step`.
        variables: weights before the first round.
        optimizer: of the clients.
        recipe: of the clients, for its batch size, its augmentation, and its epochs, which are those of one round.
        images: uint8 or float32 [N, H, W, C], of all clients, as their networks see them.
        labels: int32 [N].
        shards: whose they are.
        key: PRNG key; client k in round r has fold_in(fold_in(key, r), k).
        rounds: number of rounds.
        after_round: called with the number of rounds done and the shared variables.

    Returns:
        The shared variables after the last round.
    """
    sizes, clients = jnp.asarray(shards.sizes), jnp.arange(len(shards.sizes))
    # With weights of their own the clients' convolutions are grouped ones under vmap, which XLA does slowly on a CPU.
    train = _one_by_one if on_cpu() else _side_by_side
    trained = train(module, optimizer, recipe, shards)
    # What a network takes from the images, second moments of patches, is a mean over the clients as the weights are.
    variables = prepared(module, variables, images)
    for done in range(rounds):
        round_key = jax.random.fold_in(key, done)
        keys = jax.vmap(lambda client, k=round_key: jax.random.split(jax.random.fold_in(k, client)))(clients)
        variables = average(trained(initial_state(variables, optimizer), images, labels, keys), sizes)
        after_round(done + 1, variables)
    return variables


# Both: (start, images, labels, keys [K, 2]) -> the clients' variables after a round, stacked [K, ...].


def _side_by_side(module, optimizer, recipe: Recipe, shards: Shards) -> Callable[..., Any]:
    """Several clients in one program; one that has come to the end of its epoch waits for the others.

    They are `MOST` at a time, or as many fewer as the device's memory holds. What the last program lacks is filled up
    with the last client, so that all are of one shape.
    """
    run, number = _runner(module, optimizer, recipe, at_once=True), len(shards.sizes)
    steps = recipe.steps_per_epoch(int(shards.sizes.max()))

    def of_some(start, images, labels, keys, clients):
        sizes, indices = (jnp.asarray(of_each[clients]) for of_each in (shards.sizes, shards.indices))
        states = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], len(clients), axis=0), start)
        for epoch in range(recipe.epochs):
            shuffled = functools.partial(_shuffled, epoch=epoch, mirror=recipe.mirror)
            orders = jax.vmap(shuffled)(keys[clients, 0], indices, sizes)
            first = (states, jnp.zeros(len(clients), jnp.int32))
            (states, _), _ = run(first, images, labels, (orders, sizes), keys[clients, 1], steps)
        return states.variables

    def of_all(start, images, labels, keys):
        def work(part, size):
            clients = np.minimum(np.arange(part.start, part.start + size), number - 1)
            found = of_some(start, images, labels, keys, clients)
            return jax.tree.map(lambda leaf: leaf[: part.stop - part.start], found)

        groups = [found for _, found in in_pieces(work, number, min(MOST, number))]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *groups)

    return of_all


def _one_by_one(module, optimizer, recipe: Recipe, shards: Shards) -> Callable[..., Any]:
    """One client after the other, each for as many steps as its own images take."""
    run = _runner(module, optimizer, recipe, at_once=False)

    def of_one(client, state, images, labels, keys):
        size = int(shards.sizes[client])
        for epoch in range(recipe.epochs if size else 0):
            indices = jnp.asarray(shards.indices[client])
            order = _shuffled(keys[0], indices, size, epoch=epoch, mirror=recipe.mirror)
            first = (state, jnp.zeros((), jnp.int32))
            (state, _), _ = run(first, images, labels, (order, size), keys[1], recipe.steps_per_epoch(size))
        return state.variables

    def of_all(start, images, labels, keys):
        # `run` donates the state, and every client starts from the same.
        each = [of_one(client, jax.tree.map(jnp.copy, start), images, labels, own) for client, own in enumerate(keys)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    return of_all


@functools.cache
def _runner(
    module: Any, optimizer: optax.GradientTransformation, recipe: Recipe, *, at_once: bool
) -> Callable[..., Any]:
    """`run_steps` over the steps of one client, or of all at once; state and number of the step are its state."""
    step, batch_size = make_train_step(module, optimizer, recipe), recipe.batch_size

    def turn(state, images, labels, own, key):
        (client, number), (order, size) = state, own
        batch = order[(number * batch_size + jnp.arange(batch_size)) % jnp.maximum(size, 1)]
        moved, loss = step(client, spread(take(images, labels, batch)), key)
        active = (number < jnp.maximum(size // batch_size, 1)) & (size > 0)
        client = jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, client)
        return (client, number + 1), jnp.where(active, loss, 0)

    return run_steps(jax.vmap(turn, in_axes=(0, None, None, 0, 0)) if at_once else turn)


@functools.partial(jax.jit, static_argnames="mirror")
def _shuffled(key: jax.Array, indices: jax.Array, size: jax.Array, epoch: jax.Array, *, mirror: bool) -> jax.Array:
    """A client's images in the order of an epoch, int32 [M], ~i for a mirrored one; the fillers come last."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), indices.shape[0])
    order = indices[order[jnp.argsort(order >= size, stable=True)]]
    return alternate(key, epoch, order) if mirror else order
