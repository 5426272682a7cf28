"""What a recipe's settings do: schedule and optimizer, smoothed labels, shifts, and mirroring by turns and in tests."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evaluation_examples import make_trial, toy
from flax import linen as nn

from ugejax.app.keys import read_key, write_key
from ugejax.authorized.key import new_key
from ugejax.evaluation import trial
from ugejax.federated import Shards, federate
from ugejax.training import Batch, Recipe, accuracy, default_recipe, fit, initial_state, make_train_step
from ugejax.training.loop import on_resident
from ugejax.training.mirror import alternate
from ugejax.training.recipe import BIAS_RATE

KEY = jax.random.key(0)
NESTEROV = Recipe("nesterov", learning_rate=2.0, weight_decay=0.1, epochs=10, batch_size=10)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.4), (23, 2.0), (11.5, 1.2), (100, 0.14), (61.5, 1.07)],
    ids=["first", "peak", "up", "end", "down"],
)
def test_nesterov_goes_up_and_down_in_straight_lines(step, rate):
    assert float(NESTEROV.schedule(100)(step)) == pytest.approx(rate, rel=1e-6)


def test_the_shortest_schedule_is_finite():
    schedule = dataclasses.replace(NESTEROV, epochs=1).schedule(3)
    assert [float(schedule(step)) for step in (0, 1)] == pytest.approx([0.4, 2.0])


def test_nesterov_by_hand():
    """Gradient 1 and weight 3 everywhere: g = 1 + 0.1 * 3, with the bias of the body 64 + 0.1 * 3."""
    weights = {
        "body": {"bn": {"bias": jnp.array(3.0)}, "conv": {"kernel": jnp.array(3.0)}},
        "head": {"bias": jnp.array(3.0)},
    }
    optimizer = NESTEROV.rule(optax.constant_schedule(0.5))
    state, gradients = optimizer.init(weights), jax.tree.map(jnp.ones_like, weights)
    for momentum in (0.85, 0.85 * 1.85):  # the second step on the same g: g + 0.85 (g + 0.85 g)
        updates, state = optimizer.update(gradients, state, weights)
        expected = -0.5 * 1.3 * (1 + momentum)
        assert float(updates["body"]["conv"]["kernel"]) == pytest.approx(expected)
        assert float(updates["head"]["bias"]) == pytest.approx(expected)
        assert float(updates["body"]["bn"]["bias"]) == pytest.approx(expected / 1.3 * (BIAS_RATE + 0.3))


def test_in_two_epochs_every_image_is_seen_both_ways():
    order = jax.random.permutation(jax.random.key(3), 1000)
    first, second, third, again = (np.asarray(alternate(KEY, epoch, order)) for epoch in (0, 1, 2, 0))
    np.testing.assert_array_equal(second, ~first)
    np.testing.assert_array_equal(third, first)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(np.maximum(first, ~first), order)
    assert 420 < (first < 0).sum() < 580
    # By the image's index, wherever it stands and however many there are.
    np.testing.assert_array_equal(alternate(KEY, 0, order[::-1][:400]), first[::-1][:400])
    assert (np.asarray(alternate(jax.random.key(1), 0, order)) != first).any()


class Columns(nn.Module):
    """Logits of two classes from the first row of an image's pixels."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)(x[:, 0, :, 0])


def columns(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).integers(0, 256, (n, 2, 5, 1)).astype(np.uint8), np.arange(n, dtype=np.int32) % 2


def test_a_step_trains_on_mirrored_images_where_the_order_says_so():
    images, labels = columns(6)
    recipe = Recipe(batch_size=6, mirror=True)
    optimizer = optax.sgd(1.0)
    state = initial_state(Columns().init(KEY, jnp.zeros((1, 2, 5, 1))), optimizer)
    step = jax.jit(on_resident(make_train_step(Columns(), optimizer, recipe), 6))
    order = np.array([3, ~4, 0, ~1, 2, 5])
    mirrored = np.where(
        (order < 0)[:, None, None, None],
        images[np.maximum(order, ~order)][:, :, ::-1],
        images[np.maximum(order, ~order)],
    )
    told, _ = step(state, images, labels, order, KEY)
    shown, _ = step(state, mirrored, labels[np.maximum(order, ~order)], np.arange(6), KEY)
    jax.tree.map(np.testing.assert_array_equal, told.params, shown.params)
    plain, _ = step(state, images, labels, np.maximum(order, ~order), KEY)
    assert np.abs(plain.params["Dense_0"]["kernel"] - told.params["Dense_0"]["kernel"]).max() > 1e-4


def test_fit_and_a_federation_of_one_mirror_by_turns():
    """Of plain descent at a tiny rate the weights' movement is linear: over two epochs it has no left and right."""
    images, labels = columns(40)
    recipe = Recipe(epochs=2, batch_size=40, mirror=True)
    module, optimizer = Columns(), optax.sgd(1e-5)
    variables = module.init(KEY, jnp.zeros((1, 2, 5, 1)))
    step = make_train_step(module, optimizer, recipe)
    kernels = []
    trained = fit(
        step, initial_state(variables, optimizer), jnp.asarray(images), jnp.asarray(labels), recipe, jax.random.key(7),
        after_epoch=lambda epoch, state, loss: kernels.append(np.asarray(state.params["Dense_0"]["kernel"])),
    )  # fmt: skip
    for kernel, symmetric in zip(kernels, (False, True), strict=True):
        asymmetry = np.abs(kernel - kernel[::-1]).max() / np.abs(kernel).max()
        assert (asymmetry < 1e-3) == symmetric
    shards = Shards(np.arange(40, dtype=np.int32)[None], np.array([40], np.int32))
    # Round 0 of the only client has a key of its own.
    alone = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 0), 0)
    theirs = federate(
        module,
        variables,
        optimizer,
        recipe,
        jnp.asarray(images),
        jnp.asarray(labels),
        shards,
        jax.random.key(7),
        rounds=1,
    )
    mine = fit(step, initial_state(variables, optimizer), jnp.asarray(images), jnp.asarray(labels), recipe, alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-12), theirs, mine.variables)
    assert int(trained.step) == 2


class Fixed(nn.Module):
    """The logits 1, 0, 0 whatever it sees."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        return self.param("logits", lambda _: jnp.array([1.0, 0, 0])) + jnp.zeros((len(x), 1))


@pytest.mark.parametrize("label", [0, 1])
def test_smoothed_labels_cost_a_share_of_the_mean_over_all_classes(label):
    """PyTorch's label_smoothing: (1 - s) of the label's loss and s of the mean loss."""
    recipe = Recipe(batch_size=2, label_smoothing=0.2)
    state = initial_state(Fixed().init(KEY, jnp.zeros((1, 2, 2, 1))), optax.sgd(0.0))
    step = make_train_step(Fixed(), optax.sgd(0.0), recipe)
    _, loss = step(state, Batch(np.zeros((2, 2, 2, 1), np.uint8), np.full(2, label, np.int32)), KEY)
    each = np.log(np.e + 2) - np.array([1.0, 0, 0])
    assert float(loss) == pytest.approx(0.8 * each[label] + 0.2 * each.mean(), rel=1e-6)


class Brightness(nn.Module):
    """Logits: the brightness of the left column, and 0."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        return jnp.stack([x[:, :, 0].sum((1, 2)), jnp.zeros(len(x))], axis=-1) + self.param(
            "none", nn.initializers.zeros, (2,)
        )


def test_shifts_move_images_that_are_reflected_at_the_border():
    state = initial_state(Brightness().init(KEY, jnp.zeros((1, 1, 5, 1))), optax.sgd(0.0))
    step = jax.jit(make_train_step(Brightness(), optax.sgd(0.0), Recipe(batch_size=1, shift=2)))

    def losses(image):
        batch = Batch(np.array(image, np.float32).reshape(1, 1, 5, 1), np.ones(1, np.int32))
        keys = jax.random.split(KEY, 60)
        return {round(float(step(state, batch, key)[1]), 4) for key in keys}

    assert losses([1, 1, 1, 1, 1]) == {round(np.log(1 + np.e), 4)}
    # What comes to stand at the left: columns 2, 1, 0 by moving right, and 1, 2 by moving left.
    assert losses([0, 1, 2, 3, 4]) == {round(np.log(1 + np.exp(level)), 4) for level in (0, 1, 2)}


class LeftColumn(nn.Module):
    """Class 0 where the left column is brighter than 0.5."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        return jnp.stack([x[:, 0, 0, 0], jnp.full(len(x), 0.5)], axis=-1)


def test_a_mirrored_test_answers_by_the_mean_of_both_logits():
    images = np.array([[0.9, 0.0], [0.9, 0.2], [0.0, 0.9], [0.3, 0.9]], np.float32).reshape(4, 1, 2, 1)
    labels = np.array([1, 0, 1, 0], np.int32)  # 0.45, 0.55, 0.45 and 0.6 against 0.5
    assert accuracy(LeftColumn(), {}, images, labels) == 0.5
    assert accuracy(LeftColumn(), {}, images, labels, mirrored=True) == 1.0


def test_a_trial_is_scored_as_its_recipe_says(monkeypatch):
    asked = []
    monkeypatch.setattr(trial, "accuracy", lambda *_, mirrored: asked.append(mirrored) or 0.5)
    data = toy(6, 0)
    recipe = Recipe(epochs=1, batch_size=6, mirrored_test=True)
    make_trial(recipe=recipe, then=(trial.Phase(data.images, data.labels, "head"),)).run()
    assert asked == [True, True]


def make_key(recipe: Recipe):
    return new_key(
        b"seed 0",
        form="plain",
        network="mlp",
        image_shape=(8, 8, 1),
        num_classes=3,
        step=None,
        recipe=recipe,
        from_seed=True,
    )


def test_keys_of_other_networks_are_described_as_before(tmp_path):
    before = {"optimizer", "learning_rate", "weight_decay", "epochs", "batch_size", "augment"}
    write_key(tmp_path / "old", make_key(Recipe(augment=("crop-flip",))), {"theta_0": jnp.zeros(1)})
    content = json.loads((tmp_path / "old" / "key.json").read_text())
    assert set(content["recipe"]) == before
    new = make_key(default_recipe("cnn"))
    later = dataclasses.replace(new, recipe=dataclasses.replace(new.recipe, label_smoothing=0.2, shift=2, mirror=True))
    assert set(later.recipe.described) == before | {"label_smoothing", "shift", "mirror"}
    assert later.fingerprint != new.fingerprint
    write_key(tmp_path / "new", later, {"theta_0": jnp.zeros(1)})
    assert read_key(tmp_path / "new") == later
    assert read_key(tmp_path / "old").recipe == Recipe(augment=("crop-flip",))
