"""The compiled steps: compiled once, fed once, in place, with the secrets as arguments; what steps on a batch share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.tree_util import Partial

from ugejax.app.checkpoint import StepCheckpoints
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.compiler import kept
from ugejax.networks import initial_variables
from ugejax.training import Batch, Recipe, accuracy, fit, initial_state, loop, make_train_step
from ugejax.training.loop import epoch_order, on_resident, run_steps
from ugejax.uge import Method, NoiseState, make_update
from ugejax.views import IdentityView, dither_view

SHAPE = (8, 8, 1)
METHOD = Method(batch_size=10, transforms=(), snapshots=2, undistillation=1.0, feature_loss="error-max")


class Linear(nn.Module):
    """One linear layer."""

    num_classes: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


class Convolutional(Linear):
    """A convolution and a norm before it, where losses bend."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        z = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3))(x)))
        return nn.Dense(self.num_classes)(z.reshape(x.shape[0], -1))


def perturbation(method: Method = METHOD, module: Linear | None = None):
    """An update with all losses, and its state."""
    module = module or Linear()
    keys = jax.random.split(jax.random.key(0), 2)
    first, second = (initial_variables(module, key, SHAPE) for key in keys)
    network = AuthorizedNetwork(IdentityView(), module, first, "all")
    trajectory = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    optimizer = optax.sgd(0.1)
    noise = jax.random.uniform(jax.random.key(1), (4, *SHAPE), minval=-method.eps, maxval=method.eps)
    state = NoiseState(jnp.zeros((), jnp.int32), noise, (initial_state(first, optimizer),))
    return make_update(method, network, trajectory, [module], [optimizer], jnp.array([1, 2, 3, 0])), state


def training():
    """A training step, and its state."""
    recipe = Recipe(batch_size=10, augment=("crop-flip",))
    optimizer = recipe.build_optimizer(20)
    state = initial_state(initial_variables(Linear(), jax.random.key(0), SHAPE), optimizer)
    return make_train_step(Linear(), optimizer, recipe), state


def data() -> tuple[jax.Array, jax.Array]:
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    return jnp.asarray(images), jnp.arange(20) % 4


def first_batch() -> Batch:
    images, labels = data()
    return Batch(images[:10], labels[:10], jnp.arange(10))


@pytest.fixture
def compilations():
    """The names of what is compiled during the test, as it happens."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **details) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("on_cpu", [True, False], ids=["step by step", "an epoch as one program"])
@pytest.mark.parametrize("program", [perturbation, training])
def test_nothing_is_compiled_or_moved_after_the_first_epoch_and_the_state_is_updated_in_place(
    program, on_cpu, compilations, monkeypatch
):
    monkeypatch.setattr(loop, "on_cpu", lambda: on_cpu)
    step, state = program()
    step = on_resident(step, 10)
    run, (images, labels), key = run_steps(step), data(), jax.random.key(2)
    orders = [epoch_order(key, epoch, 20) for epoch in range(3)]
    given = state
    state, _ = run(state, images, labels, orders[0], key, 2)
    assert compilations
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    kept = [images, labels, orders[0], *jax.tree.leaves(step if isinstance(step, Partial) else ())]
    assert not any(leaf.is_deleted() for leaf in kept)
    compilations.clear()
    with jax.transfer_guard("disallow"):
        for order in orders[1:]:
            state, _ = run(state, images, labels, order, key, 2)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            run(state, np.asarray(images), labels, orders[0], key, 2)
    assert compilations == []
    assert int(state.step) == 6
    # The compiler gives results the place of the state, all of it.
    compiled, count = loop._programs(step.func)[not on_cpu], {} if on_cpu else {"count": 2}
    taken = compiled.lower(step, state, images, labels, orders[0], key, **count).compile().memory_analysis()
    assert taken.alias_size_in_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def test_what_is_built_again_of_equal_settings_is_compiled_once(compilations):
    """A training, its prediction and an update, each from a module, a recipe and arrays of its own."""
    rate, found = optax.sgd(0.1), []
    for seed in (0, 1):
        recipe, module = Recipe(epochs=1, batch_size=10, augment=("crop-flip",)), Convolutional()
        optimizer, key = recipe.build_optimizer(20), jax.random.key(seed)
        state = initial_state(initial_variables(module, key, SHAPE), optimizer)
        after = fit(make_train_step(module, optimizer, recipe), state, *data(), recipe, key)
        assert 0 <= accuracy(module, after.variables, *data()) <= 1
        trajectory = jax.tree.map(lambda leaf: leaf[None], after.variables)
        network = AuthorizedNetwork(IdentityView(), module, after.variables, "all")
        wrong = [[1, 2, 3, 0], [2, 3, 0, 1]][seed]
        update = make_update(Method(batch_size=10), network, trajectory, [module], [rate], jnp.array(wrong))
        surrogates = (initial_state(jax.tree.map(jnp.copy, after.variables), rate),)
        noise = NoiseState(jnp.zeros((), jnp.int32), jnp.full((4, *SHAPE), 0.01 * seed), surrogates)
        run_steps(on_resident(update, 10))(noise, *data(), jnp.arange(20), key, 1)
        found.append(list(compilations))
        compilations.clear()
    assert len(found[0]) >= 4 and found[1] == []
    recipe = dataclasses.replace(recipe, learning_rate=0.1)
    state = initial_state(after.variables, recipe.build_optimizer(20))
    fit(make_train_step(module, recipe.build_optimizer(20), recipe), state, *data(), recipe, key)
    assert compilations  # another recipe is another program


def test_a_step_goes_on_from_a_checkpoint_without_being_compiled_again(compilations, tmp_path):
    recipe = Recipe(batch_size=10, learning_rate=3e-3)  # of no other test, which would have compiled it
    optimizer = recipe.build_optimizer(20)
    step = make_train_step(Linear(), optimizer, recipe)
    state = initial_state(initial_variables(Linear(), jax.random.key(0), SHAPE), optimizer)
    arguments = (*data(), jnp.arange(20), jax.random.key(2))
    run = run_steps(on_resident(step, 10))
    state, _ = run(state, *arguments, 1)
    assert "jit(one_step)" in compilations
    checkpoints = StepCheckpoints(tmp_path)
    checkpoints.save(1, state)
    compilations.clear()
    run_steps(on_resident(step, 10))(checkpoints.restore(1, state), *arguments, 1)
    assert "jit(one_step)" not in compilations


def test_what_cannot_be_hashed_is_built_anew():
    built = kept(lambda *parts: list(parts))
    assert built(1, "a") is built(1, "a") is not built(2, "a")
    assert built([1]) == built([1]) and built([1]) is not built([1])


def test_snapshots_and_secret_view_are_arguments_of_the_compiled_update():
    update, state = perturbation()
    view = dither_view(b"secret 0", SHAPE, salt=bytes(16), step=16)
    blind = make_update(
        METHOD, AuthorizedNetwork(view, None, {}, "all"), None, [Linear()], [optax.sgd(0.1)], jnp.array([1, 2, 3, 0])
    )
    for step, secrets in ((update, jax.tree.leaves(update)), (blind, jax.tree.leaves(view))):
        assert secrets
        program = jax.make_jaxpr(lambda step, *arguments: step(*arguments))(
            step, state, first_batch(), jax.random.key(0)
        )
        assert not {id(constant) for constant in program.consts} & {id(secret) for secret in secrets}
        assert sum(np.size(constant) for constant in program.consts) < 100


@pytest.mark.parametrize(
    ("parametrisation", "module"), [("class-wise", Convolutional()), ("sample-wise", Linear())],
    ids=["class-wise", "sample-wise"],
)  # fmt: skip
def test_steps_on_a_batch_are_those_of_as_many_updates_of_it(parametrisation, module):
    """Without a surrogate that learns between them; the snapshot is the same, since the key and the step are."""
    method = dataclasses.replace(METHOD, parametrisation=parametrisation, feature_distance=0.0, step_size=0.05)
    (single, state), (several, _) = (
        perturbation(one, module) for one in (method, dataclasses.replace(method, steps_per_batch=2))
    )
    if parametrisation == "sample-wise":
        state = state.replace(noise=state.noise[data()[1]])
    arguments = (first_batch(), jax.random.key(0))
    single, once, losses = jax.jit(single), state, {}
    for _ in range(2):
        once, losses = single(once.replace(step=state.step), *arguments)
    at_once, their_losses = jax.jit(several)(state, *arguments)
    assert int(at_once.step) == 1
    np.testing.assert_allclose(at_once.noise, once.noise, atol=1e-6)
    assert np.abs(at_once.noise - state.noise).max() > 1.9 * method.step_size * method.eps
    assert losses.keys() == their_losses.keys() == {"gradient_matching", "undistillation"}
    for name, value in losses.items():
        np.testing.assert_allclose(their_losses[name], value, rtol=1e-4)


def test_without_feature_distance_nothing_trains():
    update, state = perturbation(dataclasses.replace(METHOD, feature_distance=0.0))
    after, losses = jax.jit(update)(state, first_batch(), jax.random.key(0))
    assert "feature_distance" not in losses
    jax.tree.map(np.testing.assert_array_equal, after.surrogates, state.surrogates)
    assert (np.asarray(after.noise) != np.asarray(state.noise)).any()
