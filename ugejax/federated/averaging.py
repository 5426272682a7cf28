"""Federated averaging in pure JAX: clients train side by side under vmap, and their weights are averaged.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017 (arXiv
1602.05629), algorithm 1 with every client in every round (C = 1).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ugejax.federated.shards import Shards
from ugejax.training import Recipe, initial_state, make_train_step
from ugejax.training.loop import run_steps


def average(trees: Any, sizes: jax.Array) -> Any:
    """The mean of K pytrees, weighted by the clients' numbers of images: sum_k n_k / n w_k.

    Args:
        trees: a pytree of float [K, ...].
        sizes: n_k, [K]; at least one of them is not 0.

    Returns:
        A pytree of float [...].
    """
    shares = sizes / sizes.sum()
    return jax.tree.map(lambda leaf: jnp.tensordot(shares.astype(leaf.dtype), leaf, 1), trees)


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
    sizes, indices = jnp.asarray(shards.sizes), jnp.asarray(shards.indices)
    clients = jnp.arange(len(sizes))
    run = _runner(module, optimizer, recipe)
    steps = recipe.steps_per_epoch(int(sizes.max()))
    shuffle = jax.jit(jax.vmap(_shuffled, in_axes=(0, 0, 0, None)))
    for done in range(rounds):
        round_key = jax.random.fold_in(key, done)
        keys = jax.vmap(lambda client, k=round_key: jax.random.split(jax.random.fold_in(k, client)))(clients)
        start = initial_state(variables, optimizer)
        states = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], len(clients), axis=0), start)
        for epoch in range(recipe.epochs):
            orders = shuffle(keys[:, 0], indices, sizes, epoch)
            turn = jnp.zeros((), jnp.int32)
            (states, _), _ = run((states, turn), images, labels, (orders, sizes), keys[:, 1], steps)
        variables = average(states.variables, sizes)
        after_round(done + 1, variables)
    return variables


@functools.cache
def _runner(module: Any, optimizer: optax.GradientTransformation, recipe: Recipe) -> Callable[..., Any]:
    """`run_steps` over steps of all clients at once; one that has come to the end of its epoch waits."""
    step, batch_size = make_train_step(module, optimizer, recipe), recipe.batch_size

    def turn_of_all(state, images, labels, orders, keys):
        (states, turn), (indices, sizes) = state, orders

        def one(client, order, size, key):
            batch = order[(turn * batch_size + jnp.arange(batch_size)) % jnp.maximum(size, 1)]
            moved, loss = step(client, images, labels, batch, key)
            active = (turn < jnp.maximum(size // batch_size, 1)) & (size > 0)
            return jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, client), jnp.where(active, loss, 0)

        states, losses = jax.vmap(one)(states, indices, sizes, keys)
        return (states, turn + 1), losses

    return run_steps(turn_of_all)


def _shuffled(key: jax.Array, indices: jax.Array, size: jax.Array, epoch: jax.Array) -> jax.Array:
    """A client's images in the order of an epoch, int32 [M]; the fillers come last."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), indices.shape[0])
    return indices[order[jnp.argsort(order >= size, stable=True)]]
