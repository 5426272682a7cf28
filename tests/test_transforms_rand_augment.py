"""RandAugment and TrivialAugment: every operation as Pillow does it, and how they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import kstest
from sklearn.datasets import load_sample_images

from ugejax.transforms import rand_augment as module
from ugejax.transforms.rand_augment import OPERATIONS, rand_augment, trivial_augment

HEIGHT, WIDTH = 24, 31
WITHOUT_STRENGTH = ("autocontrast", "equalize")


def photographs() -> list[Image.Image]:
    """Two photographs that come with scikit-learn, the first of them with less contrast, and one without any."""
    images = [Image.fromarray(image).resize((WIDTH, HEIGHT)) for image in load_sample_images().images]
    return [*images, ImageEnhance.Contrast(images[0]).enhance(0.3), Image.new("RGB", images[0].size, (77, 77, 77))]


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


PILLOW = {
    "identity": lambda image, s: image,
    "shear-x": lambda image, s: affine(image, 1, 0.3 * s, 0, 0, 1, 0),
    "shear-y": lambda image, s: affine(image, 1, 0, 0, 0.3 * s, 1, 0),
    "translate-x": lambda image, s: affine(image, 1, 0, 0.45 * s * WIDTH, 0, 1, 0),
    "translate-y": lambda image, s: affine(image, 1, 0, 0, 0, 1, 0.45 * s * HEIGHT),
    "rotate": lambda image, s: image.rotate(30 * s),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "colour": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    "solarize": lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillows_have_gradients_and_do_nothing_at_strength_0(name):
    images = photographs()
    x = jnp.asarray(np.stack(images), jnp.float32) / 255
    operation = jax.jit(jax.vmap(OPERATIONS[name], (0, None)))
    gradient = jax.jit(jax.grad(lambda x: (operation(x, 0.5) ** 2).sum()))(x)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0.1
    for strength in (1.0, -1.0, 0.5, -5 / 30):
        ours = 255 * np.asarray(operation(x, strength))
        expected = np.stack([np.asarray(PILLOW[name](image, strength), float) for image in images])
        far = np.abs(ours - expected) > 1.5  # Pillow rounds the mean grey, and what it blends
        assert far.mean() < 0.01, strength  # a pixel half-way between two may go to the other one
        assert ours.min() >= 0 and ours.max() <= 255.001
    if name not in WITHOUT_STRENGTH:
        np.testing.assert_allclose(operation(x, 0.0), x, atol=1e-6)


def test_worked_constants():
    image = jnp.array([0, 51, 102, 127, 128, 255]).reshape(2, 3, 1) / 255
    strengths = {"brightness": 0.5, "posterize": 1.0, "solarize": 0.5, "translate-x": 1.0}
    edited = jax.jit(lambda image: {name: OPERATIONS[name](image, s) for name, s in strengths.items()})(image)
    levels = {name: 255 * np.ravel(result) for name, result in edited.items()}
    np.testing.assert_allclose(levels["brightness"], [0, 73.95, 147.9, 184.15, 185.6, 255], atol=1e-3)  # 1.45 times
    np.testing.assert_allclose(levels["posterize"], [0, 48, 96, 112, 128, 240], atol=1e-3)  # multiples of 16
    np.testing.assert_allclose(levels["solarize"], [0, 51, 102, 127, 127, 0], atol=1e-3)  # from 128 on
    np.testing.assert_allclose(levels["translate-x"], [51, 102, 0, 128, 255, 0], atol=1e-3)  # 1.35 of 3 pixels


def test_values_beyond_black_and_white_equalise_as_black_and_white():
    image = jnp.asarray(photographs()[0], jnp.float32) / 255
    beyond = jnp.where(image < 0.2, -5 / 255, jnp.where(image > 0.8, 260 / 255, image))
    operation = jax.jit(OPERATIONS["equalize"])
    np.testing.assert_allclose(operation(beyond, 1.0), operation(jnp.clip(beyond, 0, 1), 1.0), atol=1e-6)


@pytest.fixture
def markers(monkeypatch):
    """Four operations, of which number i adds 10^i and writes its strength beside: images [1, 2, 1]."""

    def marker(i):
        return lambda image, strength: image + jnp.stack([10.0**i, strength]).reshape(1, 2, 1)

    monkeypatch.setattr(module, "OPERATIONS", {str(i): marker(i) for i in range(4)})


def test_trivial_augment_draws_one_operation_and_one_strength_for_each_image(markers):
    drawn = np.asarray(jax.jit(trivial_augment)(jax.random.key(0), jnp.zeros((2000, 1, 2, 1))))[:, 0, :, 0]
    values, counts = np.unique(drawn[:, 0], return_counts=True)
    np.testing.assert_allclose(values, [1, 10, 100, 1000])
    assert counts.min() > 420 and counts.max() < 580  # 500 expected, standard deviation 19
    assert kstest(drawn[:, 1], "uniform", (-1, 2)).pvalue > 0.01


def test_rand_augment_draws_several_operations_of_one_strength_for_each_image(markers):
    drawn = np.asarray(jax.jit(rand_augment)(jax.random.key(0), jnp.zeros((2000, 1, 2, 1))))[:, 0, :, 0]
    digits = np.array([[int(digit) for digit in f"{round(sums):04d}"] for sums in drawn[:, 0]])
    np.testing.assert_array_equal(digits.sum(axis=1), 3)
    assert len(np.unique(digits, axis=0)) == 20  # of 4 operations 3 with repetition
    np.testing.assert_allclose(digits.mean(axis=0), 0.75, atol=0.08)
    # Signs are drawn for each operation: +++, ++-, +-- and --- of 5 / 30.
    sums, counts = np.unique(np.round(6 * drawn[:, 1]), return_counts=True)
    np.testing.assert_array_equal(sums, [-3, -1, 1, 3])
    np.testing.assert_allclose(counts / 2000, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.05)


def test_images_one_after_the_other_and_all_at_once_are_the_same(monkeypatch):
    few = {name: OPERATIONS[name] for name in ("rotate", "brightness", "solarize")}
    monkeypatch.setattr(module, "OPERATIONS", few)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (30, 6, 7, 3)), jnp.float32) / 255
    one_by_one, at_once = [], []
    for backend, results in (("cpu", one_by_one), ("gpu", at_once)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        results.append(jax.jit(lambda key, x: trivial_augment(key, x))(jax.random.key(0), x))
    np.testing.assert_allclose(one_by_one, at_once, atol=1e-6)
    assert np.abs(np.asarray(one_by_one[0]) - x).max() > 0.1
