"""Federated averaging is what its clients would do by themselves and a plain average; shards are partitions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evaluation_examples import toy

from experiments import federated as experiment
from experiments.composed import Job
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection
from ugejax.authorized import AuthorizedNetwork, new_key, seen
from ugejax.federated import (
    Shards,
    average,
    averaging,
    dirichlet_shards,
    federate,
    iid_shards,
    protect_shards,
    seen_shards,
    shard_salts,
)
from ugejax.networks import build, initial_variables
from ugejax.training import Batch, Recipe, fit, initial_state, make_train_step
from ugejax.uge import Method
from ugejax.views import dither_view

RECIPE = Recipe(epochs=2, batch_size=8)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


@pytest.fixture(scope="module")
def network():
    module = build("mlp", 3)
    return module, initial_variables(module, jax.random.key(0), (8, 8, 1))


def shards_of(*members: list[int]) -> Shards:
    width = max(map(len, members))
    return Shards(
        np.array([list(own) + [0] * (width - len(own)) for own in members], np.int32),
        np.array([len(own) for own in members], np.int32),
    )


def alone(network, images, labels, key):
    """What one client makes of its own images."""
    module, variables = network
    step = make_train_step(module, OPTIMIZER, RECIPE)
    state = initial_state(variables, OPTIMIZER)
    return fit(step, state, jnp.asarray(images), jnp.asarray(labels), RECIPE, key).variables


def test_the_average_is_weighted_by_the_number_of_images():
    rng = np.random.default_rng(0)
    trees = {"a": rng.normal(size=(3, 4, 2)).astype(np.float32), "b": {"c": rng.normal(size=3).astype(np.float32)}}
    sizes = np.array([5, 0, 15])
    result = average(trees, jnp.asarray(sizes))
    expected = np.average(trees["a"].astype(float), axis=0, weights=sizes)
    np.testing.assert_allclose(result["a"], expected, atol=1e-6)
    np.testing.assert_allclose(result["b"]["c"], 0.25 * trees["b"]["c"][0] + 0.75 * trees["b"]["c"][2], atol=1e-6)


def test_one_client_is_ordinary_training(network):
    data, key = toy(30, 0), jax.random.key(3)
    shards = shards_of(list(range(30)))
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    result = federate(*network, OPTIMIZER, RECIPE, images, labels, shards, key, rounds=1)
    expected = alone(network, data.images, data.labels, jax.random.fold_in(jax.random.fold_in(key, 0), 0))
    for got, wanted in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def hold(monkeypatch, clients: int) -> list[int]:
    """A device that has memory for so many clients side by side; the list gets how many were asked for."""
    runner, asked = averaging._runner, []

    def limited(*arguments, **options):
        run = runner(*arguments, **options)

        def run_or_not(first, *rest):
            asked.append(len(first[1]))
            if asked[-1] > clients:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return run(first, *rest)

        return run_or_not

    monkeypatch.setattr(averaging, "_runner", limited)
    return asked


@pytest.mark.parametrize(
    ("backend", "most", "programs"), [("cpu", 8, []), ("gpu", 3, [3, 3, 3, 3]), ("gpu", 8, [4, 2, 2, 2, 2])],
    ids=["one after the other", "three at a time, the last with places for nobody", "as many as the memory holds"],
)  # fmt: skip
def test_a_round_is_the_average_of_what_the_clients_make_alone_however_many_images_they_have(
    network, backend, most, programs, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(averaging, "MOST", most)
    asked = hold(monkeypatch, 3) if backend == "gpu" else []
    data, key = toy(60, 0), jax.random.key(4)
    members = [list(range(0, 24)), list(range(24, 51)), [], [*range(51, 60)]]
    rounds = []
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    result = federate(
        *network, OPTIMIZER, RECIPE, images, labels, shards_of(*members), key, rounds=1,
        after_round=lambda done, variables: rounds.append((done, variables)),
    )  # fmt: skip
    assert [done for done, _ in rounds] == [1] and rounds[0][1] is result
    assert asked == programs  # clients in each epoch's
    # Of a client's order only its own images count, so each has the order of a data set of the widest one's size.
    trained = []
    for client, own in enumerate(members):
        if own:
            client_key = jax.random.fold_in(jax.random.fold_in(key, 0), client)
            trained.append(_in_the_order_of(network, data, own, client_key, width=27))
    expected = jax.tree.map(lambda *leaves: np.average(leaves, axis=0, weights=[24, 27, 9]), *trained)
    for got, wanted in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def _in_the_order_of(network, data, own, key, *, width):
    """A client's training, step by step, in the order that a padded shard of that width gives."""
    module, variables = network
    step = jax.jit(make_train_step(module, OPTIMIZER, RECIPE))
    state, (order_key, step_key) = initial_state(variables, OPTIMIZER), jax.random.split(key)
    for epoch in range(RECIPE.epochs):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), width))
        order = np.array(own)[order[order < len(own)]]
        for start in range(0, len(own) // 8 * 8, 8):
            batch = order[start : start + 8]
            state, _ = step(state, Batch(data.images[batch], data.labels[batch]), step_key)
    return state.variables


def test_clients_with_less_than_a_batch_still_take_part(network):
    data = toy(12, 0)
    shards = shards_of([0, 1, 2], [3])
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    result = federate(*network, OPTIMIZER, RECIPE, images, labels, shards, jax.random.key(0), rounds=1)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (result, network[1])), strict=True)]
    assert np.isfinite(moved).all() and min(moved) > 0


@pytest.mark.parametrize("clients", [1, 6, 100])
def test_every_image_has_one_client(clients):
    labels, key = np.random.default_rng(clients).integers(0, 5, 80).astype(np.int32), jax.random.key(clients)
    for shards in (iid_shards(key, labels, clients), dirichlet_shards(key, labels, clients, alpha=0.1)):
        held = [shards.of(client) for client in range(clients)]
        assert len(held) == len(shards.sizes) == len(shards.indices)
        assert sorted(np.concatenate(held).tolist()) == list(range(len(labels)))
        assert all((np.diff(own) > 0).all() for own in held)
    assert np.ptp(iid_shards(key, labels, clients).sizes) <= 1


def test_a_small_concentration_leaves_clients_few_classes():
    labels = np.arange(5000, dtype=np.int32) % 10

    def largest_shares(shards: Shards) -> np.ndarray:
        counts = [np.bincount(labels[shards.of(client)], minlength=10) for client in range(20) if shards.sizes[client]]
        return np.array([count.max() / count.sum() for count in counts])

    key = jax.random.key(0)
    assert largest_shares(iid_shards(key, labels, 20)).max() < 0.2
    assert largest_shares(dirichlet_shards(key, labels, 20, alpha=1000.0)).max() < 0.2
    assert np.median(largest_shares(dirichlet_shards(key, labels, 20, alpha=0.1))) > 0.5


def test_clients_protect_their_own_images_with_the_shared_key(tmp_path):
    data = toy(12, 0)
    network = AuthorizedNetwork(dither_view(b"secret 0", (8, 8, 1), salt=bytes(16), step=24), None, None, "all")
    keys = jax.random.split(jax.random.key(1), 3)
    job = Protection(Method(), network, Recipe(), 3, keys[0], keys[1], b"secret", rounding_key=keys[2])
    # The first client has one class alone, the second none at all.
    shards = shards_of([0, 3, 6], [], [1, 2, 4, 5, 7, 8, 9, 10, 11])
    salts = [bytes([client] * 16) for client in range(3)]
    released = protect_shards(job, data.images, data.labels, shards, tmp_path, salts)
    distance = np.abs(released.astype(int) - data.images)
    assert (distance.reshape(12, -1).max(axis=1) > 0).all() and distance.max() <= 8
    views = [seen_shards(network, images, shards, salts) for images in (released, data.images)]
    np.testing.assert_array_equal(*views)
    np.testing.assert_array_equal(views[0][[0, 3, 6]], seen(network.of_release(salts[0]).view, released[[0, 3, 6]]))
    # Whole cells are rounded to nearest, so that it makes no difference who protects, but for the salts.
    alone = job.run(data.images, data.labels, tmp_path)
    assert (released != alone).any()
    np.testing.assert_array_equal(
        protect_shards(job, data.images, data.labels, shards, tmp_path, [bytes(16)] * 3), alone
    )


def test_every_client_has_a_salt_of_its_own_images():
    key = new_key(
        b"seed 0", form="keyed-dither", network="mlp", image_shape=(8, 8, 1), num_classes=3, step=24,
        recipe=RECIPE, from_seed=True,
    )  # fmt: skip
    images, shards = toy(6, 0).images, shards_of([0, 1, 2], [], [3, 4, 5])
    salts = shard_salts(key, images, shards)
    assert [len(salt) for salt in salts] == [16] * 3 and len(set(salts)) == 3
    assert shard_salts(key, images, shards) == salts
    other = shard_salts(key, 255 - images, shards)
    assert [a == b for a, b in zip(salts, other, strict=True)] == [False, True, False]


def test_smoke_of_the_experiment(tmp_path, monkeypatch):
    # Shards of one shape are compiled once.
    monkeypatch.setattr(experiment, "SPLITS", {"iid": iid_shards, "other": iid_shards})
    key = new_key(
        b"seed 0", form="keyed-dither", network="mlp", image_shape=(8, 8, 1), num_classes=3, step=24,
        recipe=RECIPE, from_seed=True,
    )  # fmt: skip
    job = Job(toy(60, 0), toy(12, 1), key, build_authorized(key), None)
    rows = list(experiment.run(job, tmp_path, ["iid", "other"], 2, optax.sgd(0.05), rounds=2))
    assert [(row["split"], row["who"]) for row in rows[:3]] == [
        ("iid", "authorized"), ("iid", "wrong key"), ("iid", "without a key"),
    ]  # fmt: skip
    assert len(rows) == 6 and all(sum(row["sizes"]) == 60 for row in rows)
    assert all(len(row[kind]) == 2 for row in rows for kind in ("originals", "release"))
    # What it sees is the same, so what it learns is.
    assert all(row["originals"] == row["release"] for row in rows if row["who"] == "authorized")
    # What is finished is not trained again.
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "federate", None)
        assert list(experiment.run(job, tmp_path, ["iid"], 2, optax.sgd(0.05), rounds=2, finished=rows)) == rows[:3]
