"""What all transforms have in common, and their composition, mixture and names."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.errors import UserError
from ugejax.transforms import TRANSFORMS, compose, mixture, parse_transforms, rand_augment
from ugejax.transforms.filters import grey
from ugejax.transforms.quantisation import bit_depth

LINEAR = {"crop-flip", "cutout", "mixup", "cutmix", "blur", "grey", "resize"}
WITHOUT_KIN = [name for name in TRANSFORMS if name not in ("jpeg-30", "jpeg-50", "jpeg-75")]  # jpeg-10 stands for them
RANDOM = {"crop-flip", "cutout", "mixup", "cutmix", "resize", "rand-augment", "ueraser"}
SHAPE = (6, 8, 10, 3)


def images(seed=0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, shape).astype(np.float32)


@pytest.fixture
def few_operations(monkeypatch):
    """Some of the image editor's operations stand for all, which take long to compile."""
    few = {name: rand_augment.OPERATIONS[name] for name in ("rotate", "brightness", "posterize")}
    monkeypatch.setattr(rand_augment, "OPERATIONS", few)


def shares(batch=SHAPE[0]) -> jax.Array:
    return jax.nn.one_hot(jnp.arange(batch) % 4, 4)


@pytest.mark.parametrize("part", ["filters", "geometry", "jpeg", "mixing", "quantisation", "rand_augment", "ueraser"])
def test_key_comes_first_and_options_are_keywords(part):
    module = importlib.import_module(f"ugejax.transforms.{part}")
    public = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and name[0] != "_" and name != "quantisation_table"
    ]
    assert public
    for function in public:
        parameters = list(inspect.signature(function).parameters.values())
        names = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert names in (["x"], ["key", "x"], ["key", "x", "y"])


@pytest.mark.parametrize("name", WITHOUT_KIN)
@pytest.mark.usefixtures("few_operations")
def test_shape_range_labels_gradient_and_mapping(name):
    x, y, keys = images(), shares(), jax.random.split(jax.random.key(1), 2)
    weights = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)

    def all_of(key):
        moved, back, labels = jax.vjp(lambda z: TRANSFORMS[name](key, z, y), x, has_aux=True)
        return moved, labels, back(weights)[0]

    moved, labels, gradient = jax.jit(all_of)(keys[1])
    assert moved.shape == x.shape and moved.dtype == x.dtype
    assert float(moved.min()) >= 0 and float(moved.max()) <= 1 + 1e-6
    assert labels.shape == y.shape and labels.dtype == y.dtype
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0.1
    if name in LINEAR:  # <w, T x> = <T' w, x>
        np.testing.assert_allclose(np.vdot(gradient, x), np.vdot(weights, moved), rtol=1e-4, atol=1e-3)
    mapped = jax.jit(jax.vmap(all_of))(keys)
    for together, alone in zip(mapped, (moved, labels, gradient), strict=True):
        np.testing.assert_allclose(together[1], alone, atol=1e-5)
    assert (np.asarray(mapped[0][0] != mapped[0][1]).any()) == (name in RANDOM)


@pytest.mark.parametrize("name", WITHOUT_KIN)
@pytest.mark.usefixtures("few_operations")
def test_grey_images_keep_their_channel_and_a_perturbation_moves_with_its_image(name):
    x, y, key = images(shape=(4, 9, 7, 1)), shares(4), jax.random.key(3)
    delta = np.random.default_rng(1).uniform(-0.05, 0.05, x.shape).astype(np.float32)
    transform = jax.jit(TRANSFORMS[name])
    moved, labels = transform(key, x, y)
    moved_u, labels_u = transform(key, x + delta, y)
    assert moved.shape == x.shape
    np.testing.assert_array_equal(labels, labels_u)
    if name in LINEAR:
        np.testing.assert_allclose(moved_u - moved, transform(key, delta, y)[0], atol=1e-6)


def test_composition_applies_all_in_turn():
    x, y = images(), shares()
    composed, labels = compose(("grey", "bdr"))(jax.random.key(0), x, y)
    np.testing.assert_array_equal(composed, bit_depth(grey(x), bits=2))
    assert (np.asarray(composed) != np.asarray(grey(bit_depth(x, bits=2)))).any()
    np.testing.assert_array_equal(labels, y)


def test_composition_draws_independently_for_each_transform():
    white = np.ones((40, 8, 8, 1), np.float32)
    black = (np.asarray(compose(("cutout", "cutout"))(jax.random.key(0), white, shares(40))[0]) == 0).sum(axis=(1, 2))
    assert black.max() > 16  # more than one square of 4 x 4


@pytest.mark.parametrize("build", [compose, mixture])
def test_without_names_nothing_happens(build):
    x, y = images(), shares()
    moved, labels = build(())(jax.random.key(0), x, y)
    assert moved is x and labels is y


def test_mixture_applies_each_transform_equally_often():
    names = ("grey", "bdr", "mixup")
    x, y = images(shape=(2, 4, 4, 3)), shares(2)
    keys = jax.random.split(jax.random.key(0), 600)
    moved, labels = jax.jit(jax.vmap(lambda key: mixture(names)(key, x, y)))(keys)
    is_grey = np.isclose(moved, grey(x), atol=1e-6).all(axis=(1, 2, 3, 4))
    is_bdr = np.isclose(moved, bit_depth(x, bits=2), atol=1e-6).all(axis=(1, 2, 3, 4))
    mixed = ~np.isclose(labels, y).all(axis=(1, 2))
    # Two images are mixed with themselves in half of the permutations. Expected: 200, 200, 100; deviations 12, 12, 9.
    assert 150 < is_grey.sum() < 250 and 150 < is_bdr.sum() < 250 and 60 < mixed.sum() < 140
    assert not (is_grey & is_bdr).any() and not (mixed & (is_grey | is_bdr)).any()


def test_names_are_read_and_checked():
    assert parse_transforms(" crop-flip, jpeg-10,crop-flip", "transforms") == ("crop-flip", "jpeg-10")
    assert parse_transforms("none", "transforms") == ()
    with pytest.raises(UserError, match="`augment`: unknown 'jpeg-11': did you mean 'jpeg-10'"):
        parse_transforms("mixup,jpeg-11", "augment")
    with pytest.raises(UserError, match="none alone"):
        parse_transforms("none,mixup", "transforms")
    with pytest.raises(UserError, match="names no transform"):
        parse_transforms(" , ", "transforms")
