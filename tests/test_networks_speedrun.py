"""`speedrun`: its whitening filters, its identity at the start, its maps, and where trainings begin."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_examples import write_toy
from evaluation_examples import make_trial, toy
from flax import linen as nn

import ugejax.perturbations.parametrisation as protecting
import ugejax.uge as recording
from ugejax.app.cli import main
from ugejax.app.cli import train as training
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.protection import Partner, Protection
from ugejax.app.release import read_release
from ugejax.authorized import AuthorizedNetwork, seen
from ugejax.baselines import surrogate
from ugejax.federated import averaging
from ugejax.networks import build
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.registry import NETWORKS, Network
from ugejax.networks.speedrun import WHITENING_EPSILON, SpeedrunBody, dirac, patches, whitening_filters
from ugejax.training import Recipe, prepared
from ugejax.training import prepare as preparing
from ugejax.uge import Method
from ugejax.views import IdentityView

KEY = jax.random.key(0)


def correlated(n: int, channels: int, seed: int = 0) -> np.ndarray:
    """Images whose neighbouring pixels and channels are alike, float32 [n, 9, 7, channels] about 0.5."""
    noise = np.random.default_rng(seed).normal(size=(n, 9, 7, channels))
    smooth = noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)
    return (0.5 + 0.1 * (smooth + smooth.mean(axis=-1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_filters_whiten_the_patches(channels):
    x = correlated(200, channels) - 0.4  # a mean is not taken out: the second moments are whitened
    filters = whitening_filters([x[:90], x[90:]])
    p = np.asarray(patches(x), np.float64).reshape(-1, 4 * channels)
    variances = np.linalg.eigvalsh(p.T @ p / len(p))
    white = p @ np.asarray(filters, np.float64)
    expected = np.diag(variances / (variances + WHITENING_EPSILON))
    np.testing.assert_allclose(white.T @ white / len(p), expected, atol=1e-4)
    assert variances[0] > 5 * WHITENING_EPSILON
    largest = np.abs(filters).argmax(axis=0)
    assert (np.take_along_axis(np.asarray(filters), largest[None], axis=0) > 0).all()


def test_patches_are_pixels_row_by_row():
    x = jnp.arange(12.0).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(patches(x)[0, 0, 1], [2, 3, 4, 5, 8, 9, 10, 11])


def test_of_grey_images_with_three_channels_nothing_is_blown_up():
    grey = np.repeat(correlated(50, 1), 3, axis=-1)
    white = patches(grey) @ whitening_filters([grey])
    assert float(jnp.abs(white[..., :8]).max()) < 1e-3  # eight directions of colour
    assert float(jnp.square(white[..., 8:]).mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("features", [3, 5, 8])
def test_a_dirac_convolution_passes_its_input_on(features):
    x = jax.random.normal(KEY, (2, 6, 4, 5))
    y, variables = Conv(features, kernel_init=dirac).init_with_output(KEY, x)
    same = min(5, features)
    np.testing.assert_allclose(y[..., :same], x[..., :same], atol=1e-6)
    rest = np.asarray(variables["params"]["kernel"][..., same:])
    assert np.all(np.abs(rest) <= 1 / np.sqrt(45)) and (not rest.size or np.std(rest) > 0.5 / np.sqrt(45))


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((32, 32, 3), [(15, 15), (7, 7), (3, 3)]),
        ((8, 8, 1), [(3, 3), (3, 3), (3, 3)]),
        ((28, 28, 1), [(13, 13), (6, 6), (3, 3)]),
        ((24, 40, 3), [(11, 19), (5, 9), (2, 4)]),
        ((64, 64, 3), [(31, 31), (15, 15), (7, 7)]),
        ((2, 2, 1), [(1, 1), (1, 1), (1, 1)]),
    ],
)
def test_small_maps_are_not_halved(shape, sides):
    network = build("speedrun", 10)

    def traced(x):
        return network.init_with_output(KEY, x, capture_intermediates=True)

    logits, variables = jax.eval_shape(traced, jnp.zeros((1, *shape)))
    assert logits.shape == (1, 10)
    maps = variables["intermediates"]["body"]
    assert [maps[f"conv{group}_2"]["__call__"][0].shape[1:3] for group in (1, 2, 3)] == sides


# One group in place of three, which is compiled sooner.
BODY = SpeedrunBody((4,))


@pytest.fixture
def tiny(monkeypatch) -> Classifier:
    """The network, registered as "tiny"."""
    monkeypatch.setitem(NETWORKS, "tiny", Network(lambda num_classes: Classifier(BODY, num_classes), "speedrun"))
    return Classifier(BODY, 3)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(Classifier(BODY, 3).init)(KEY, jnp.zeros((1, 8, 8, 1)))


def filters_of(variables) -> np.ndarray:
    return np.asarray(variables["batch_stats"]["body"]["filters"])


def test_filters_are_made_when_training_begins_and_stay(tiny, variables):
    images = toy(12, 0).images
    np.testing.assert_array_equal(filters_of(variables), np.eye(4))
    ready = prepared(tiny, variables, images)
    np.testing.assert_allclose(filters_of(ready), whitening_filters([(images / 255 - 0.5) / 0.25]), rtol=1e-4)
    np.testing.assert_array_equal(filters_of(prepared(tiny, ready, images[:3])), filters_of(ready))
    jax.tree.map(np.testing.assert_array_equal, ready["params"], variables["params"])


def test_training_moves_all_but_the_filters(tiny, variables):
    recipe = Recipe("nesterov", 0.1, 1e-3, 8, 6, label_smoothing=0.2, mirrored_test=True)
    score, trained = make_trial(module=tiny, variables=variables, recipe=recipe).run()
    ready = prepared(tiny, variables, toy(12, 0).images)
    np.testing.assert_array_equal(filters_of(trained), filters_of(ready))
    for part in ("params", "batch_stats"):
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), ready[part], trained[part])
        still = [path for path, value in jax.tree_util.tree_leaves_with_path(moved) if value == 0]
        assert [path[-1].key for path in still] == (["filters"] if part == "batch_stats" else [])
    assert score.last > 0.8


def test_at_most_so_many_images_are_looked_at_all_over_the_set(monkeypatch):
    monkeypatch.setattr(preparing, "MOST", 5)
    seen = []

    class Recording(nn.Module):
        def prepare(self, variables, pieces):
            seen.extend(np.concatenate([np.asarray(x)[:, 0, 0, 0] for x in pieces]))

    images = np.arange(13, dtype=np.uint8).reshape(13, 1, 1, 1)
    prepared(Recording(), {}, images)
    np.testing.assert_allclose(255 * np.array(seen), [0, 3, 6, 9, 12], atol=1e-5)


class Begun(Exception):
    """A training has begun with these filters."""


def stop(variables, optimizer):
    raise Begun(filters_of(variables))


def test_every_training_begins_with_it(tiny, variables, tmp_path, monkeypatch):
    """The trajectory, the surrogates of an update and of baselines, and clients: stopped where training would begin."""

    for module in (surrogate, averaging, protecting, recording):
        monkeypatch.setattr(module, "initial_state", stop)
    data = toy(12, 0)
    expected = filters_of(prepared(tiny, variables, data.images))
    network = AuthorizedNetwork(IdentityView(), tiny, variables, "head")
    method = Method(epochs=1, surrogates=("tiny",))
    keys = jax.random.split(jax.random.key(0), 3)
    job = Protection(method, network, Recipe(), 3, keys[0], keys[1], b"secret", rounding_key=keys[2])
    partner = Partner(network, Recipe(), KEY, tmp_path)
    shards = averaging.Shards(np.arange(12, dtype=np.int32)[None], np.array([12], np.int32))
    beginnings = [
        lambda: job._trajectory(partner, data.images, data.labels, "trajectory", lambda *_: None),
        lambda: job._noise(data.images, data.labels, [(network, None)], tmp_path, None, lambda *_: None),
        lambda: surrogate.joint_surrogate(KEY, "tiny", data.images, 3, batch_size=4),
        lambda: surrogate.clean_checkpoints(KEY, "tiny", data.images, data.labels, 3, epochs=1),
        lambda: averaging.federate(
            tiny, variables, Recipe().build_optimizer(12), Recipe(), jnp.asarray(data.images), jnp.asarray(data.labels),
            shards, KEY, rounds=1,
        ),
    ]  # fmt: skip
    for begin in beginnings:
        with pytest.raises(Begun) as caught:
            begin()
        np.testing.assert_array_equal(caught.value.args[0], expected)


def test_it_is_protected_for_and_attacks(tiny, tmp_path, monkeypatch):
    """`protect --network` and `--hackers`; `train` is stopped where it would begin."""
    write_toy(tmp_path / "toy.npz")
    release, key = str(tmp_path / "release"), tmp_path / "key"
    size = ["--n-test", "12", "--eps", "32/255"]
    assert (
        main(["protect", str(tmp_path / "toy.npz"), "--out", release, "--key", str(key), "--network", "tiny", *size])
        == 0
    )
    recipe = json.loads((key / "key.json").read_text())["recipe"]
    assert recipe["optimizer"] == "nesterov" and recipe["mirror"] and recipe["shift"] == 2
    assert main(["attack", release, "--out", str(tmp_path / "attack"), "--hackers", "tiny", "--epochs", "1"]) == 0
    (row,) = json.loads((tmp_path / "attack" / "results.json").read_text())["rows"]
    assert row["network"] == "tiny" and row["epochs"] == 1
    monkeypatch.setattr(training, "initial_state", stop)
    made = read_release(tmp_path / "release")
    network = build_authorized(read_key(key), key).of_release(bytes.fromhex(made.card["salt"]))
    np.testing.assert_array_equal(filters_of(network.variables), np.eye(4))
    ready = prepared(tiny, network.variables, seen(network.view, made.images))
    with pytest.raises(Begun) as caught:
        main(["train", release, "--key", str(key), "--out", str(tmp_path / "trained")])
    np.testing.assert_array_equal(caught.value.args[0], filters_of(ready))
