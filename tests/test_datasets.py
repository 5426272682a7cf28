"""Image sets of every kind: grey, not square, photographs, long-tailed, of two classes and of a thousand."""

import sys
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import datasets, main_job, main_table
from ugejax.app.protection import Protection
from ugejax.authorized import AuthorizedNetwork, seen
from ugejax.batches import at_a_time
from ugejax.data import Dataset
from ugejax.networks import build, variable_shapes
from ugejax.perturbations.start import class_stripes, nearest_wrong_class
from ugejax.training import Batch, Recipe, initial_state, make_train_step
from ugejax.uge import Method
from ugejax.views import dither_view


@pytest.mark.parametrize(("shape", "classes"), [((9, 14, 1), 1000), ((224, 224, 3), 2)])
def test_a_release_keeps_the_budget_and_the_authorized_network_sees_no_difference(shape, classes):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    network = AuthorizedNetwork(dither_view(b"secret 0", shape, salt=bytes(16), step=24), None, None, "all")
    keys = jax.random.split(jax.random.key(1), 3)
    job = Protection(Method(), network, Recipe(), classes, keys[0], keys[1], b"secret", rounding_key=keys[2])
    labels = np.array([0, classes - 1, 1], np.int32)
    noise = class_stripes(b"secret", classes, shape, amplitude=8 / 255, period=8)
    released = job.release(images, labels, noise)
    distance = np.abs(released.astype(int) - images)
    assert distance.max() <= 8
    assert (distance > 0).mean() > 0.5
    np.testing.assert_array_equal(seen(network.view, released), seen(network.view, images))


@pytest.mark.parametrize(("shape", "classes"), [((224, 224, 3), 1000), ((9, 14, 1), 2)])
@pytest.mark.parametrize("name", ["cnn", "mlp", "res-tiny"])
def test_small_networks_train_on_every_kind(name, shape, classes):
    recipe = Recipe(augment=("crop-flip",))
    optimizer = recipe.build_optimizer(64)
    step = make_train_step(build(name, classes), optimizer, recipe)
    state = jax.eval_shape(lambda v: initial_state(v, optimizer), variable_shapes(name, classes, shape))
    images = jax.ShapeDtypeStruct((64, *shape), np.uint8)
    integers = jax.ShapeDtypeStruct((64,), np.int32)
    after, loss = jax.eval_shape(step, state, Batch(images, integers), jax.eval_shape(lambda: jax.random.key(0)))
    assert loss.shape == ()
    assert after.params["head"]["kernel"].shape[1] == classes
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (17, 9, 1), (9, 40, 3)])
@pytest.mark.parametrize("classes", [2, 100, 1000])
def test_no_two_classes_share_their_stripes(classes, shape):
    stripes = np.asarray(class_stripes(b"secret 0", classes, shape, amplitude=0.5, period=8))
    assert stripes.dtype == np.float32
    assert set(np.unique(stripes)) == {-0.5, 0.5}
    assert len({one.tobytes() for one in stripes}) == classes


def test_a_wrong_class_for_each_of_many_takes_the_memory_of_pairs_of_classes_not_of_pairs_of_images():
    means = np.random.default_rng(0).uniform(size=(200, 16, 16, 3))
    tracemalloc.start()
    nearest_wrong_class(means)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * means.nbytes  # the pairs' images would take 200 times as much


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from((1, 3))), st.integers(1, 2000))
def test_large_images_are_worked_on_fewer_at_a_time(shape, most):
    count = at_a_time(shape, most=most)
    assert 1 <= count <= most
    assert count == 1 or count * np.prod(shape) <= 2**22
    assert count == most or (count + 1) * np.prod(shape) > 2**22


def toy(n: int, classes: int) -> Dataset:
    images = np.random.default_rng(n).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
    return Dataset(images, np.arange(n, dtype=np.int32) % classes, tuple("abcdefghij"[:classes]))


def test_what_the_experiment_makes_of_its_sets():
    train, test = toy(1000, 10), toy(20, 10)
    two = datasets.first_classes(train, classes=2)
    assert two.class_names == ("a", "b") and set(two.labels) == {0, 1} and len(two.images) == 200
    grey = datasets.in_grey(train)
    expected = train.images[0, 0, 0] @ np.array([0.299, 0.587, 0.114])  # BT.601
    assert grey.images.shape == (1000, 8, 8, 1) and abs(grey.images[0, 0, 0, 0] - expected) <= 0.5
    np.testing.assert_array_equal(datasets.upright(train).images, train.images[:, :, 1:7])
    counts = np.bincount(datasets.long_tailed(train, imbalance=100).labels)
    # 100 * 100^(-k/9), cut off, but at least one.
    np.testing.assert_array_equal(counts, [100, 59, 35, 21, 12, 7, 4, 2, 1, 1])
    many, unseen = datasets.exemplars((train, test), classes=50, copies=3)
    assert len(many.images) == 150 and len(many.class_names) == 50
    np.testing.assert_array_equal(many.labels[:50], unseen.labels)
    assert len(np.unique(many.images.reshape(150, -1), axis=0)) > 140
    assert set(np.unique(many.images[7])) <= set(np.unique(train.images[7]))


@pytest.mark.parametrize("module", [datasets, main_table])
def test_smoke(module, tmp_path, monkeypatch, capsys):
    """Protects and verifies; that an evaluation trains is for others to test."""
    steps, evaluations = [], []
    accuracies = {"clean_accuracy": 0.5, "protected_accuracy": 0.25, "protected_peak_accuracy": 0.3, "retention": 0.5}

    def noted(name, function):
        def call(*arguments, **options):
            steps.append(name)
            return function(*arguments, **options)

        return call

    def evaluate(evaluation, cache, found):
        evaluations.append(evaluation)
        authorized, hacker = (
            {"role": role, "network": "mlp", "countermeasure": "none", **accuracies}
            for role in ("authorized", "hacker")
        )
        return [authorized | {"backbone_accuracy": 0.6}, hacker], [{}, {}]

    monkeypatch.setattr(datasets, "protect", noted("protect", datasets.protect))
    monkeypatch.setattr(datasets, "verify_release", noted("verify", datasets.verify_release))
    monkeypatch.setattr(main_job, "evaluate", noted("evaluate", evaluate))
    monkeypatch.setattr(datasets, "_load", lambda source: (toy(200, 4), toy(40, 4)))
    command = ["datasets", "--data-dir", str(tmp_path), "--out", str(tmp_path / "runs"), "--scale", "smoke"]
    monkeypatch.setattr(sys, "argv", [*command, "--sets", "long-tailed,tiny-imagenet", "--networks", "mlp,res-tiny"])
    assert module.main() == 0
    printed = capsys.readouterr().out
    assert steps == 2 * ["protect", "verify", "evaluate"]
    assert [evaluation.key.network for evaluation in evaluations] == ["mlp", "res-tiny"]
    assert "tiny-imagenet: left out" in printed
    # 50 images of the first class, 10 and 2 of the next, 1 of the last: all 63 of which 60 are taken.
    rows = [
        f"| long-tailed | 8x8x3 | 4 | 60 | {network} | 0.600 | 0.500 | 0.250 | 0.500 | 0.250 | 0.300 |"
        for network in ("mlp", "res-tiny")
    ]
    assert printed.splitlines()[-2:] == rows
    assert len({len(line.split("|")) for line in printed.splitlines()[-4:]}) == 1
    assert np.bincount(evaluations[-1].test.labels).tolist() == [8, 8, 7, 7]  # balanced, as it was
