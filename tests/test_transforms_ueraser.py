"""UEraser's augmentation: its fractals, its permutations, and how often each is applied."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.transforms import ueraser as module
from ugejax.transforms.ueraser import channel_shuffle, plasma_brightness, plasma_contrast, ueraser

COLOUR = np.array([0.2, 0.5, 0.9], np.float32)


def test_channels_are_permuted_and_all_permutations_occur_equally_often():
    x = jnp.broadcast_to(COLOUR, (1200, 2, 3, 3))
    shuffled = np.asarray(jax.jit(channel_shuffle)(jax.random.key(0), x))
    assert (shuffled == shuffled[:, :1, :1]).all()  # the same in every pixel
    counts = [np.all(shuffled[:, 0, 0] == np.array(p), axis=1).sum() for p in itertools.permutations(COLOUR)]
    assert sum(counts) == 1200
    assert min(counts) > 150 and max(counts) < 250  # 200 expected, standard deviation 13


@pytest.mark.parametrize("shape", [(400, 16, 16, 2), (400, 5, 7, 1)])
def test_plasma_changes_brightness_smoothly_and_neither_up_nor_down_on_average(shape):
    grey = jnp.full(shape, 0.5)
    change = np.asarray(jax.jit(plasma_brightness)(jax.random.key(0), grey)) - 0.5
    assert change.shape == shape
    assert np.abs(change).max() <= 0.5
    assert abs(change.mean()) < 0.02
    assert 0.08 < change.std() < 0.3
    # What is left of a difference of neighbours, compared with that of pixels of two images: 1 for white noise.
    neighbours, strangers = np.diff(change, axis=1).std(), (change[1:] - change[:-1]).std()
    assert neighbours < 0.8 * strangers
    if shape[-1] == 2:  # each channel has its own
        assert abs(np.corrcoef(change[..., 0].ravel(), change[..., 1].ravel())[0, 1]) < 0.2


def test_plasma_contrast_keeps_the_middle_grey_and_multiplies_the_rest_by_0_to_4():
    x = jnp.broadcast_to(jnp.array([0.5, 0.55, 0.6]), (200, 8, 8, 3))
    changed = np.asarray(jax.jit(plasma_contrast)(jax.random.key(0), x))
    np.testing.assert_array_equal(changed[..., 0], 0.5)
    factors = (changed[..., 1] - 0.5) / 0.05
    assert factors.min() > -1e-5 and factors.max() < 4 + 1e-5
    assert factors.mean() == pytest.approx(2, abs=0.1)
    assert factors.std() > 0.2


def test_each_change_is_made_to_half_of_the_images_before_trivial_augment(monkeypatch):
    for name, added in (("plasma_brightness", 1.0), ("plasma_contrast", 10.0), ("channel_shuffle", 100.0)):
        monkeypatch.setattr(module, name, lambda key, x, added=added: x + added)
    monkeypatch.setattr(module, "trivial_augment", lambda key, x: x * 2)
    marked = np.asarray(ueraser(jax.random.key(0), jnp.zeros((800, 1, 1, 1)))).ravel()
    values, counts = np.unique(marked, return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 20, 22, 200, 202, 220, 222])
    assert counts.min() > 60 and counts.max() < 140  # 100 expected, standard deviation 9
