"""Training: it learns, it goes on from a checkpoint with the same bits, and it compiles once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy.special import log_softmax

from ugejax.app.checkpoint import StepCheckpoints
from ugejax.errors import UserError
from ugejax.networks import NETWORKS, build, initial_variables
from ugejax.training import (
    Recipe,
    accuracy,
    default_recipe,
    fit,
    initial_state,
    make_train_step,
    record_trajectory,
    snapshot,
)
from ugejax.training.loop import epoch_order, on_resident
from ugejax.training.recipe import RECIPES
from ugejax.training.step import freeze

RECIPE = Recipe(epochs=4, batch_size=16)


def toy(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """8x8 images of three classes that differ in which third of the rows is bright."""
    labels = np.arange(n, dtype=np.int32) % 3
    images = np.random.default_rng(0).integers(60, 120, (n, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 100
    return images.astype(np.uint8), labels


def start(recipe: Recipe, trains: str = "all", network: str = "mlp"):
    module = build(network, 3)
    variables = initial_variables(module, jax.random.key(0), (8, 8, 1))
    optimizer = freeze(recipe.build_optimizer(60), trains)
    return module, make_train_step(module, optimizer, recipe), initial_state(variables, optimizer)


def train(step, state, recipe=RECIPE, **options):
    images, labels = toy()
    return fit(step, state, jnp.asarray(images), jnp.asarray(labels), recipe, jax.random.key(1), **options)


def assert_same(left, right) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_separable_images_are_learned_and_the_loss_falls():
    module, step, state = start(RECIPE)
    losses = []
    trained = train(step, state, after_epoch=lambda epoch, _, loss: losses.append((epoch, loss)))
    images, labels = toy()
    assert accuracy(module, trained.variables, images, labels) == 1.0
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
    assert losses[-1][1] < 0.5 * losses[0][1]
    assert int(trained.step) == 4 * (60 // 16)


@pytest.mark.parametrize(("cut", "augment"), [(1, ()), (3, ()), (1, ("crop-flip", "mixup"))])
def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(cut, augment, tmp_path):
    recipe = Recipe(epochs=4, batch_size=16, augment=augment)
    _, step, state = start(recipe)
    checkpoints = StepCheckpoints(tmp_path)

    def save(epoch, current, loss):
        if epoch == cut:
            checkpoints.save(epoch, current)

    whole = train(step, state, recipe, after_epoch=save)
    resumed = checkpoints.restore(cut, state)
    assert int(resumed.step) == cut * 3
    epochs = []
    assert_same(train(step, resumed, recipe, after_epoch=lambda epoch, *_: epochs.append(epoch)), whole)
    assert epochs == list(range(cut + 1, 5))


def test_the_state_given_to_fit_stays_usable():
    _, step, state = start(RECIPE)
    before = jax.tree.map(np.array, state)
    train(step, state)
    assert_same(jax.tree.map(np.array, state), before)


@pytest.mark.parametrize("augment", [(), ("cutmix",)])
def test_the_step_is_traced_once_however_many_epochs(augment):
    recipe = Recipe(epochs=3, batch_size=16, augment=augment)
    _, step, state = start(recipe)
    traces = []

    def counted(*arguments):
        traces.append(1)
        return step(*arguments)

    train(counted, state, recipe)
    assert len(traces) == 1


def test_every_epoch_has_an_order_of_its_own_that_is_a_permutation():
    orders = [np.asarray(epoch_order(jax.random.key(1), epoch, 60)) for epoch in (0, 1, 0)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(60))
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[0], orders[2])


def test_an_epoch_takes_its_batches_from_the_order_one_after_the_other():
    """The step sees images[order[16 i : 16 (i + 1)]]: the loss on batches of one class says which they were."""
    images, labels = toy()
    module, step, state = start(RECIPE)
    order, step = np.argsort(labels, stable=True), jax.jit(on_resident(step, 16))
    apply = jax.jit(functools.partial(module.apply, train=True))
    for position in (0, 1, 2, 0):
        batch = np.asarray(order[16 * position : 16 * (position + 1)])
        logits = apply(state.variables, images[batch] / np.float32(255))
        expected = -log_softmax(logits, axis=1)[np.arange(16), labels[batch]].mean()
        state, loss = step(state, images, labels, order, jax.random.key(0))
        assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_accuracy_counts_every_image_once_whatever_the_batch_size(batch_size):
    images, labels = toy(7)
    module, _, state = start(RECIPE)
    # Blank images, with which a last batch is filled up, must not count, whichever class they are taken for.
    guessed = np.asarray(jax.jit(module.apply)(state.variables, images / np.float32(255))).argmax(-1)
    for wrong in range(8):
        labels = np.where(np.arange(7) < wrong, (guessed + 1) % 3, guessed).astype(np.int32)
        assert accuracy(module, state.variables, images, labels, batch_size=batch_size) == (7 - wrong) / 7
    as_float = jnp.asarray(images, jnp.float32) / 255
    assert accuracy(module, state.variables, as_float, guessed, batch_size=batch_size) == 1.0


class Normalised(nn.Module):
    """One linear layer behind a batch norm, whose training and running statistics differ at once."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(x.shape[0], -1))
        return nn.Dense(self.num_classes)(x)


def normalised_step(recipe: Recipe, **options):
    optimizer = recipe.build_optimizer(60)
    state = initial_state(initial_variables(Normalised(), jax.random.key(0), (8, 8, 1)), optimizer)
    return on_resident(make_train_step(Normalised(), optimizer, recipe, **options), recipe.batch_size), state


def test_labels_may_be_shares_of_the_classes():
    images, labels = toy()
    order, key = jnp.arange(60), jax.random.key(0)
    step, state = normalised_step(RECIPE)
    step = jax.jit(step)
    hard, soft = (step(state, images, given, order, key) for given in (labels, np.eye(3, dtype=np.float32)[labels]))
    assert_same(hard, soft)
    shares = np.random.default_rng(1).dirichlet(np.ones(3), 60).astype(np.float32)
    apply = jax.jit(functools.partial(Normalised().apply, train=True, mutable=["batch_stats"]))
    logits, _ = apply(state.variables, images[:16] / np.float32(255))
    expected = -(shares[:16] * log_softmax(logits, axis=1)).sum(axis=1).mean()
    assert float(step(state, images, shares, order, key)[1]) == pytest.approx(expected, rel=1e-5)


def test_augmentation_that_mixes_images_mixes_their_labels():
    """Image i is lit at pixel i alone, so that the image on which the step trains says which labels it must have."""
    images, labels = np.eye(12, 64, dtype=np.float32).reshape(12, 8, 8, 1), np.arange(12) % 3
    met = {}

    def keep(losses_of_x, key, x):
        met.update(x=x, losses=losses_of_x(x))
        return x

    step, state = normalised_step(Recipe(batch_size=12, augment=("mixup",)), adversary=keep)

    @jax.jit
    def trained_on(state):
        step(state, jnp.asarray(images), jnp.asarray(labels), jnp.arange(12), jax.random.key(0))
        return met["x"], met["losses"]

    x, losses = trained_on(state)
    shares = np.asarray(x).reshape(12, 64)[:, :12]
    assert (np.count_nonzero(shares, axis=1) == 2).any()
    logits = jax.jit(Normalised().apply)(state.variables, x)
    expected = -(shares @ np.eye(3)[labels] * log_softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_an_adversary_sees_the_loss_in_eval_mode_and_replaces_the_images():
    images, labels = toy()
    order = jnp.arange(60)

    def sign_step(losses_of_x, key, x):
        return jnp.clip(x + 0.1 * jnp.sign(jax.grad(lambda x: losses_of_x(x).sum())(x)), 0, 1)

    step, state = normalised_step(RECIPE, adversary=sign_step)
    after, loss = jax.jit(step)(state, images, labels, order, jax.random.key(0))
    x, y = jnp.asarray(images[:16] / np.float32(255)), jnp.asarray(labels[:16])

    def mean_loss(x):
        logits = Normalised().apply(state.variables, x, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    attacked = jax.jit(lambda x: jnp.clip(x + 0.1 * jnp.sign(jax.grad(mean_loss)(x)), 0, 1))(x)
    plain, _ = normalised_step(RECIPE)
    moved = np.concatenate([attacked, images[16:] / np.float32(255)])
    expected, expected_loss = jax.jit(plain)(state, moved, labels, order, jax.random.key(0))
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.params, expected.params)


def test_an_adversary_has_another_key_in_every_step():
    images, labels = toy()
    step, state = normalised_step(RECIPE, adversary=lambda _, key, x: jax.random.uniform(key, x.shape))
    step = jax.jit(step)
    one, two = (state.replace(step=jnp.int32(position)) for position in (0, 3))  # of the first batch either time
    losses = [float(step(s, images, labels, jnp.arange(60), jax.random.key(0))[1]) for s in (one, two, one)]
    assert losses[0] == losses[2] != losses[1]


class Forgetful(nn.Module):
    """One linear layer behind dropout."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(self.num_classes)(nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1)))


@pytest.mark.parametrize("train_mode", [True, False])
def test_other_units_drop_out_in_every_step_and_none_where_the_body_is_frozen(train_mode):
    images, labels = toy()
    optimizer = RECIPE.build_optimizer(60)
    state = initial_state(initial_variables(Forgetful(), jax.random.key(0), (8, 8, 1)), optimizer)
    step = jax.jit(on_resident(make_train_step(Forgetful(), optimizer, RECIPE, train_mode=train_mode), 16))
    one, two = (state.replace(step=jnp.int32(position)) for position in (0, 3))  # of the first batch either time
    losses = [float(step(s, images, labels, jnp.arange(60), jax.random.key(0))[1]) for s in (one, two, one)]
    assert losses[0] == losses[2]
    assert (losses[0] != losses[1]) == train_mode


def test_what_aggregates_gradients_sees_the_batch_and_moves_the_weights():
    images, labels = toy()
    module, plain, state = start(RECIPE)

    def in_halves(loss_and_gradient, key, x, y):
        halves = [loss_and_gradient(x[i::2], y[i::2]) for i in range(2)]
        return jax.tree.map(lambda a, b: (a + b) / 2, *halves)

    def at_random(loss_and_gradient, key, x, y):
        loss, gradient = loss_and_gradient(x, y)
        return loss + jax.random.uniform(key), gradient

    def run(step, state=state):
        return jax.jit(on_resident(step, 16))(state, images, labels, jnp.arange(60), jax.random.key(0))

    def with_aggregate(aggregate):
        return make_train_step(module, RECIPE.build_optimizer(60), RECIPE, aggregate=aggregate)

    (expected, loss), (after, same_loss) = run(plain), run(with_aggregate(in_halves))
    assert float(same_loss) == pytest.approx(float(loss), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.params, expected.params)
    losses = [float(run(with_aggregate(at_random), state.replace(step=step))[1]) for step in (0, 3, 0)]
    assert losses[0] == losses[2] != losses[1]  # another key in every step


def test_batch_norm_has_no_gradient_of_an_example():
    images, labels = toy()
    step, state = normalised_step(RECIPE, aggregate=lambda of, key, x, y: of(x, y))
    with pytest.raises(ValueError, match="batch norm"):
        jax.eval_shape(step, state, images, labels, jnp.arange(60), jax.random.key(0))


def test_training_the_head_alone_leaves_the_body_as_it_was():
    _, step, state = start(RECIPE, trains="head")
    trained = train(step, state)
    assert_same(trained.params["body"], state.params["body"])
    for name in ("kernel", "bias"):
        assert (np.asarray(trained.params["head"][name]) != np.asarray(state.params["head"][name])).any()


def test_trajectory_is_the_evenly_spaced_states_of_the_run(tmp_path):
    _, step, state = start(RECIPE)
    seen = {0: jax.tree.map(np.array, state.variables)}
    train(step, state, after_epoch=lambda epoch, s, _: seen.update({epoch: jax.tree.map(np.array, s.variables)}))
    images, labels = (jnp.asarray(array) for array in toy())

    def record(snapshots, folder):
        return record_trajectory(
            step, state, images, labels, RECIPE, jax.random.key(1),
            StepCheckpoints(tmp_path / folder, keep=None), snapshots=snapshots,
        )  # fmt: skip

    two = record(2, "two")
    assert {leaf.shape[0] for leaf in jax.tree.leaves(two)} == {2}
    assert_same(snapshot(two, 0), seen[0])
    assert_same(snapshot(two, 1), seen[2])
    many = record(9, "many")  # no more than one an epoch, and never the trained network itself
    assert {leaf.shape[0] for leaf in jax.tree.leaves(many)} == {4}
    assert_same(jax.jit(snapshot)(many, 3), seen[3])


@pytest.mark.parametrize(
    ("networks", "recipe"),
    [
        (["cnn", "cnn-nonorm", "mlp", "res-tiny"], Recipe("adamw", 2e-3, 5e-3, 15, 32)),
        (["r18", "r20", "r56", "r50", "vgg16-bn", "mv2"], Recipe("sgd", 0.1, 5e-4, 60, 128)),
        (["vit-small", "cait-small", "convmixer", "mlp-mixer"], Recipe("adamw", 1e-3, 0.05, 100, 128)),
        (["speedrun", "speedrun-wide"], Recipe("nesterov", 0.73, 1.33e-3, 11, 500, (), 0.2, 2, True, True)),
    ],
)
def test_every_kind_of_network_has_its_recipe(networks, recipe):
    for network in networks:
        assert default_recipe(network) == recipe


def test_recipes():
    assert {network.recipe for network in NETWORKS.values()} == set(RECIPES)
    with pytest.raises(UserError, match="did you mean 'vit-small'"):
        default_recipe("vit-smal")
    augmented = default_recipe("cnn", epochs=15, augment=("crop-flip",))
    assert (augmented.epochs, augmented.augment) == (36, ("crop-flip",))
    assert Recipe(batch_size=32).steps_per_epoch(100) == 3
    assert Recipe(batch_size=32).steps_per_epoch(5) == 1
    with pytest.raises(UserError, match="adamw, sgd or nesterov"):
        Recipe(optimizer="adam").build_optimizer(10)
