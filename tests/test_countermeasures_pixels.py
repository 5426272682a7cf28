"""Countermeasures that move, mix or rescale pixels: worked constants, and what each of them takes away."""

import dataclasses

import numpy as np
import pytest
from hacker_examples import data_of, labels_of, natural
from skimage.exposure import equalize_hist

from ugejax.countermeasures import COUNTERMEASURES
from ugejax.countermeasures.channels import COMBINATIONS, class_energy, mixed
from ugejax.countermeasures.coin import FARTHEST, moved
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.preprocessing import DEVIATION, equalised, normalised
from ugejax.perturbations.start import class_stripes
from ugejax.training import decode


class Always:
    """Draws one number."""

    def __init__(self, value: float):
        self.value = value

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


def test_coin_interpolates_at_the_displaced_place_and_repeats_the_edge():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1) / 16  # value (4 row + column) / 16
    half = moved(Always(0.5), x)
    np.testing.assert_allclose(half[0, :3, :3], x[0, :3, :3] + 2.5 / 16, atol=1e-6)
    np.testing.assert_allclose(half[0, 3, :3, 0], x[0, 3, :3, 0] + 0.5 / 16, atol=1e-6)  # no row below
    np.testing.assert_array_equal(moved(Always(0.0), x), x)
    np.testing.assert_array_equal(moved(Always(-9.0), x), np.zeros_like(x))  # all from the corner


def test_coin_moves_training_images_by_the_seed_and_by_no_more_than_two_pixels():
    data = data_of(natural(30))
    first, again, other = (COUNTERMEASURES["coin"].prepared(dataclasses.replace(data, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    assert first.test_images is data.test_images
    window = np.lib.stride_tricks.sliding_window_view(
        np.pad(decode(data.images), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge"), (5, 5), axis=(1, 2)
    )
    assert FARTHEST == 2
    assert (first.images >= window.min(axis=(-2, -1)) - 1e-6).all()
    assert (first.images <= window.max(axis=(-2, -1)) + 1e-6).all()


def test_normalised_channels_have_one_mean_and_deviation_whatever_was_added_to_them():
    images = natural(6)
    result = decode(normalised(images))
    np.testing.assert_allclose(result.mean(axis=(1, 2)), 0.5, atol=0.02)
    np.testing.assert_allclose(result.std(axis=(1, 2)), DEVIATION, atol=0.03)  # what is clipped varies less
    x = decode(images[:, :8]) / 2
    shifted = 0.8 * x + np.array([0.1, 0.0, 0.2], np.float32)
    np.testing.assert_array_equal(normalised(x), normalised(shifted))
    np.testing.assert_array_equal(normalised(np.full((1, 4, 4, 3), 7, np.uint8)), 128)


def test_equalised_values_are_the_share_of_pixels_up_to_theirs():
    # 1, 4, 2 and 1 of 8 pixels: (1, 5, 7, 8) less 1, by 7.
    plane = np.array([9, 50, 50, 50, 50, 60, 60, 200], np.uint8).reshape(1, 2, 4, 1)
    expected = [0, *[round(255 * 4 / 7)] * 4, *[round(255 * 6 / 7)] * 2, 255]
    np.testing.assert_array_equal(equalised(plane).ravel(), expected)
    np.testing.assert_array_equal(equalised(np.full((1, 2, 2, 1), 7, np.uint8)), 7)


def test_equalised_images_are_those_of_scikit_image_stretched():
    images = natural(3)
    for image, result in zip(images, equalised(images), strict=True):
        for channel in range(3):
            shares = equalize_hist(image[..., channel], nbins=256)
            expected = 255 * (shares - shares.min()) / (1 - shares.min())
            np.testing.assert_allclose(result[..., channel], expected, atol=1)  # it interpolates between bins


def test_mixed_channels_are_the_combination_in_every_channel():
    pixels = np.array([[200, 100, 0], [10, 10, 10], [0, 255, 0]], np.uint8).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(mixed(pixels, weights=(0, 0, 1))[0, 0], np.repeat([[0], [10], [0]], 3, axis=1))
    # 127.5 + (200 - 100) / 2 = 177.5, rounded to even; 127.5; 127.5 - 127.5.
    difference = mixed(pixels, weights=COMBINATIONS["red-minus-green"])
    np.testing.assert_array_equal(difference[0, 0], np.repeat([[178], [128], [0]], 3, axis=1))
    grey = natural(2, 1)
    np.testing.assert_array_equal(mixed(grey, weights=(1, -1, 0)), grey)


@pytest.mark.parametrize("coded", [(1, 1, -1), (1, 0, 0), (0, 1, 1)])
def test_the_combination_without_code_is_found(coded):
    originals, labels = natural(300), labels_of(300)
    stripes = np.asarray(class_stripes(b"a key", 3, (16, 16, 1), amplitude=8 / 255, period=4))
    data = data_of(to_uint8(decode(originals) + (stripes * np.array(coded))[labels]))
    prepared = COUNTERMEASURES["channel-least-code"].prepared(data)
    without = [weights for weights in COMBINATIONS.values() if abs(np.dot(weights, coded)) < 1e-9]
    assert any((prepared.images == mixed(data.images, weights=weights)).all() for weights in without)
    assert (prepared.test_images[..., 0] == prepared.test_images[..., 2]).all()


def test_natural_class_means_have_an_energy_of_one_and_stripes_a_larger():
    originals, labels = natural(300), labels_of(300)
    stripes = np.asarray(class_stripes(b"a key", 3, (16, 16, 3), amplitude=8 / 255, period=4))
    clean, striped = data_of(originals), data_of(to_uint8(decode(originals) + stripes[labels]))
    for name, weights in COMBINATIONS.items():
        assert class_energy(clean, weights) < 2, name
    assert class_energy(striped, COMBINATIONS["blue"]) > 10
    assert class_energy(striped, COMBINATIONS["red-minus-green"]) < 2
