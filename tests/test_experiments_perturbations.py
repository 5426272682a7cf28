"""The perturbations that experiments compose themselves are what their names say."""

import jax
import numpy as np
import pytest

from experiments.blind_sets import low_frequencies
from experiments.perturbation_kinds import KINDS
from ugejax.countermeasures.natural import to_frequencies
from ugejax.data import Dataset


@pytest.fixture(scope="module")
def data() -> Dataset:
    labels = np.arange(120, dtype=np.int32) % 3
    images = np.random.default_rng(0).integers(0, 256, (120, 32, 32, 3)).astype(np.uint8)
    return Dataset(images, labels, ("a", "b", "c"))


@pytest.mark.parametrize("name", KINDS)
def test_kinds_follow_from_the_key_and_stay_within_the_budget(name, data):
    noise = KINDS[name](jax.random.key(0), data)
    assert noise.shape == data.images.shape
    assert 0.5 < np.abs(noise).max() <= 1
    np.testing.assert_array_equal(noise, KINDS[name](jax.random.key(0), data))


@pytest.mark.parametrize("name", ("signed-stripes", "shifted-stripes", "ar", "fields"))
def test_what_is_random_in_every_image_has_no_class_mean(name, data):
    noise = KINDS[name](jax.random.key(0), data)
    means = np.stack([noise[data.labels == k].mean(axis=0) for k in range(3)])
    # 40 images a class: a mean of independent signs is about 0.16.
    assert np.sqrt((means**2).mean()) < 0.25 < np.sqrt((KINDS["stripes-8"](jax.random.key(0), data) ** 2).mean())


def test_the_low_frequencies_of_patches_hold_no_high_ones():
    view = low_frequencies(b"secret", patch=8, waves=3)
    assert view.basis.shape == (16, 192, 13)
    for basis in np.asarray(view.basis):
        np.testing.assert_allclose(basis.T @ basis, np.eye(13), atol=1e-5)
    directions = np.moveaxis(np.asarray(view.basis), -1, 1).reshape(-1, 8, 8, 3)
    spectra = to_frequencies(directions)
    spectra[:, :3, :3] = 0
    np.testing.assert_allclose(spectra, 0, atol=1e-5)
