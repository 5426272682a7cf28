"""Several devices give the numbers of one: on four forced CPU devices, in a process of its own."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from process_examples import begin, with_devices

from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.protection import Protection
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.networks import initial_variables
from ugejax.parallel import in_bulk
from ugejax.perturbations.parametrisation import initial_noise
from ugejax.training import Batch, Recipe, fit, fit_together, initial_state, make_train_step
from ugejax.training.loop import accuracy, on_resident, run_steps
from ugejax.uge import Method, NoiseState, make_update, release_batch
from ugejax.views import IdentityView

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
LABELS = np.arange(50, dtype=np.int32) % 3


def test_any_number_of_devices_gives_the_numbers_of_one(tmp_path):
    process = begin(on_four_devices, said=tmp_path / "said", XLA_FLAGS=with_devices(4))
    process.join(timeout=900)
    assert process.exitcode == 0, (tmp_path / "said").read_text()


def test_a_ragged_batch_is_filled_up_and_the_filling_taken_out():
    shapes = []

    def halved(shared, x, index):
        shapes.append(x.shape)
        return x * shared + index[:, None]

    run = in_bulk(halved, jnp.float32(0.5), batch_size=8)
    for n in (8, 3, 1):
        x = np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)
        np.testing.assert_array_equal(run(x, np.arange(n)), x / 2 + np.arange(n)[:, None])
    assert len(shapes) == 1  # one program for all of them


class Normalised(nn.Module):
    """A convolution, batch norm, which mixes the examples of a batch, and a linear head."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(nn.Conv(4, (3, 3), strides=2)(x)))
        return nn.Dense(self.num_classes, name="head")(x.reshape(x.shape[0], -1))


def released() -> np.ndarray:
    """50 images in batches of 8, every value rounded at random by its image's index; those of `jax.pmap` are the same.

    That takes 48 of them in one batch, which all four devices can share equally.
    """
    method, view = Method(parametrisation="sample-wise", epochs=1), IdentityView()
    network = AuthorizedNetwork(view, None, {}, "all")
    keys = jax.random.split(jax.random.key(0), 3)
    job = Protection(method, network, Recipe(), 3, keys[0], keys[1], b"secret", rounding_key=keys[2])
    noise = 0.03 * jax.random.normal(jax.random.key(1), IMAGES.shape)
    images = job.release(IMAGES, LABELS, noise, batch_size=8)
    if (count := jax.device_count()) == 4:
        shards = (np.asarray(rows)[:48].reshape(count, -1, *rows.shape[1:]) for rows in (noise, IMAGES, np.arange(50)))
        release = functools.partial(release_batch, method)
        mapped = jax.pmap(release, in_axes=(None, 0, 0, 0, None), devices=jax.devices())
        np.testing.assert_array_equal(np.concatenate(mapped(view, *shards, keys[2])), images[:48])
    return images


def trained(checkpoints: StepCheckpoints, begun: int = 0) -> tuple[Any, float]:
    """Weights and statistics after two epochs in batches of 15.

    Every epoch leaves a checkpoint; from which to go on is told by its number.
    """
    recipe = Recipe("sgd", 0.05, 5e-4, 2, 15, ("mixup",))
    optimizer, module = recipe.build_optimizer(50), Normalised()
    state = initial_state(initial_variables(module, jax.random.key(0), (8, 8, 1)), optimizer)
    state = checkpoints.restore(begun, state) if begun else state
    step = make_train_step(module, optimizer, recipe)
    after = fit(
        step, state, jnp.asarray(IMAGES), jnp.asarray(LABELS), recipe, jax.random.key(1),
        after_epoch=lambda epoch, state, loss: checkpoints.save(epoch, state),
    )  # fmt: skip
    restored = jax.device_put(after.variables, jax.devices()[0])  # as a checkpoint is, which no step has followed
    return after.variables, accuracy(module, restored, jnp.asarray(IMAGES), LABELS, batch_size=30)


def trained_together() -> list[Any]:
    """Weights and statistics of two networks after an epoch in one program."""
    recipe = Recipe("sgd", 0.05, 5e-4, 1, 15)
    optimizer, module, keys = recipe.build_optimizer(50), Smooth(), jax.random.split(jax.random.key(0), 2)
    states = [initial_state(initial_variables(module, key, (8, 8, 1)), optimizer) for key in keys]
    step = make_train_step(module, optimizer, recipe)
    after = fit_together(step, states, [IMAGES, IMAGES[::-1]], [LABELS, LABELS[::-1]], recipe, list(keys))
    return [state.variables for state in after]


def updated(checkpoints: StepCheckpoints, begun: int = 0) -> tuple[jax.Array, Any, list[dict[str, jax.Array]]]:
    """Noise, surrogate and losses after two updates in batches of 15; checkpoints as for `trained`."""
    method = Method(parametrisation="sample-wise", batch_size=15, transforms=("mixup",))
    module, optimizer = Normalised(), optax.sgd(0.05)
    variables = initial_variables(module, jax.random.key(0), (8, 8, 1))
    network = AuthorizedNetwork(IdentityView(), module, variables, "all")
    trajectory = jax.tree.map(lambda leaf: leaf[None], variables)
    update = make_update(method, network, trajectory, [module], [optimizer], jnp.array([1, 2, 0]))
    start = np.random.default_rng(1).uniform(-0.03, 0.03, IMAGES.shape).astype(np.float32)
    state = NoiseState(jnp.zeros((), jnp.int32), jnp.array(start), (initial_state(variables, optimizer),))
    x, y, order = jnp.asarray(IMAGES), jnp.asarray(LABELS), jax.random.permutation(jax.random.key(4), 50)
    state = checkpoints.restore(begun, state) if begun else state
    losses = []
    for done in range(begun, 2):
        state, loss = run_steps(on_resident(update, 15))(state, x, y, order, jax.random.key(5), 1)
        checkpoints.save(done + 1, state)
        losses.append(loss)
    assert np.abs(state.noise - start).max() > 0.002
    return state.noise, state.surrogates[0].variables, losses


class Smooth(nn.Module):
    """A convolution and a linear head, without batch norm, which would normalise each shard by itself."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(self.num_classes, name="head")(jnp.tanh(nn.Conv(4, (3, 3), strides=2)(x)).reshape(len(x), -1))


def shards_of_a_batch_are_the_batch() -> None:
    """The update of every parametrisation, and a training step, by `jax.pmap` over four devices and on one."""
    module, optimizer, batch = Smooth(), optax.sgd(0.05), Batch(IMAGES[:16], LABELS[:16], np.arange(16, dtype=np.int32))
    shards = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), batch)
    variables = initial_variables(module, jax.random.key(0), (8, 8, 1))
    network = AuthorizedNetwork(IdentityView(), module, variables, "all")
    trajectory = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), variables)
    start = 0.02 * jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    cases = []  # how the step is made, its state, and by how much values may differ
    for kind in ("class-wise", "sample-wise", "generator"):  # codes move as classes' tensors do
        matched = float(kind == "class-wise")  # once is enough: compiling it is most of the time
        method = Method(
            parametrisation=kind, transforms=(), gradient_matching=matched, undistillation=matched, batch_size=16
        )
        state = initial_noise(jax.random.key(2), method, start, IMAGES, batch.y, [module], [optimizer])
        state = dataclasses.replace(state, surrogates=(initial_state(variables, optimizer),))
        make = functools.partial(make_update, method, network, trajectory, [module], [optimizer], jnp.array([1, 2, 0]))
        # A generator's Adam makes a step of one size even of a gradient that is next to nothing.
        cases.append((make, state, 1e-5 if kind == "generator" else 1e-6))
    recipe = Recipe(label_smoothing=0.1)
    cases.append(
        (functools.partial(make_train_step, module, optimizer, recipe), initial_state(variables, optimizer), 1e-6)
    )
    for make, state, atol in cases:
        one = jax.jit(make())(state, batch, jax.random.key(3))
        mapped = jax.pmap(make(axis_name="shards"), axis_name="shards", in_axes=(None, 0, None))
        several = mapped(state, shards, jax.random.key(3))
        for got, wanted in zip(*map(jax.tree.leaves, (several, one)), strict=True):
            for device in range(4):
                np.testing.assert_allclose(got[device], wanted, rtol=1e-5, atol=atol)


def only(count: int) -> contextlib.AbstractContextManager[Any]:
    """In this context there are the first devices alone."""
    devices = jax.devices()[:count]
    return mock.patch.multiple(jax, devices=lambda: devices, local_devices=lambda: devices, device_count=lambda: count)


def assert_on_all(of: Callable[..., Any], *, atol: float, folder: Path | None = None, counts: Sequence[int]) -> None:
    """A result is the same on one device, the first of the counts, and on more.

    With a folder for checkpoints its first two parts, which do not tell of the way, are also those of going on: one
    device ends what four began, and the other way round.
    """

    def of_checkpoints(count: int) -> list[StepCheckpoints]:
        return [StepCheckpoints(folder / str(count), keep=None)] if folder else []

    def assert_same(result, wanted):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=atol), result, wanted)

    results = []
    for count in counts:
        with only(count):
            results.append(jax.tree.map(np.asarray, of(*of_checkpoints(count))))
        assert_same(results[-1], results[0])
    for began, ends in [(4, 1), (1, 4)] if folder else []:
        with only(ends):
            assert_same(of(*of_checkpoints(began), begun=1)[:2], results[0][:2])


def on_four_devices() -> int:
    assert jax.device_count() == 4
    assert_on_all(released, atol=0, counts=(1, 3, 4))  # two are those of each process in `test_hosts`
    assert_on_all(trained_together, atol=1e-6, counts=(1, 4))
    with tempfile.TemporaryDirectory() as folder:
        # Of batches of 15: which three devices can share equally, and four cannot.
        assert_on_all(trained, atol=1e-6, folder=Path(folder) / "trained", counts=(1, 3, 4))
        assert_on_all(updated, atol=1e-6, folder=Path(folder) / "updated", counts=(1, 3, 4))
    shards_of_a_batch_are_the_batch()
    return 0
