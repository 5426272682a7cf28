"""Counter-measures against worked constants and planted perturbations."""

import numpy as np
import pytest

from ugejax.countermeasures import COUNTERMEASURES, parse_countermeasures
from ugejax.countermeasures.adaptive import orthogonal_projection, subtract_class_means, whitened_key_recovery
from ugejax.countermeasures.preprocessing import bit_depth, blur, grey, jpeg
from ugejax.errors import UserError

CLASSES = 3


def smooth(n: int, channels: int, *, size: int = 8, seed: int = 0) -> np.ndarray:
    """Images without classes whose neighbouring pixels are alike, far from black and white."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, size + 4, size + 4, channels))
    for _ in range(2):
        x = (x[:, :-1] + x[:, 1:])[:, :, :-1] + (x[:, :-1] + x[:, 1:])[:, :, 1:]
    return np.clip(128 + 20 * x[:, :size, :size] / x.std(), 0, 255).round().astype(np.uint8)


def labels_of(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32) % CLASSES


def test_grey_uses_the_luma_weights_and_keeps_the_shape():
    pixels = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]], np.uint8)
    result = grey(pixels.reshape(1, 1, 5, 3))
    assert result.dtype == np.uint8
    assert result.shape == (1, 1, 5, 3)
    # 0.299 * 255 = 76.245, 0.587 * 255 = 149.685, 0.114 * 255 = 29.07, 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
    np.testing.assert_array_equal(result[0, 0], np.repeat([[76], [150], [29], [255], [18]], 3, axis=1))


def test_bit_depth_rounds_to_the_nearest_of_evenly_spaced_levels():
    levels = np.array([0, 42, 43, 127, 128, 212, 213, 255], np.uint8).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(bit_depth(levels, bits=2).ravel(), [0, 0, 85, 85, 170, 170, 255, 255])
    np.testing.assert_array_equal(bit_depth(levels, bits=1).ravel(), [0, 0, 0, 0, 255, 255, 255, 255])
    np.testing.assert_array_equal(bit_depth(levels, bits=8), levels)


def test_blur_is_the_binomial_kernel_with_repeated_edges():
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 2] = 160
    kernel = np.array([[10, 20, 10], [20, 40, 20], [10, 20, 10]])
    np.testing.assert_array_equal(blur(image)[0, 1:4, 1:4, 0], kernel)
    assert blur(image).sum() == 160
    corner = np.zeros((1, 4, 4, 1), np.uint8)
    corner[0, 0, 0] = 160
    np.testing.assert_array_equal(blur(corner)[0, :2, :2, 0], [[90, 30], [30, 10]])  # 160 (3/4, 1/4) x (3/4, 1/4)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_at_lower_quality_and_keeps_flat_images(channels):
    noisy = np.random.default_rng(0).integers(0, 256, (4, 16, 16, channels)).astype(np.uint8)
    errors = {q: np.abs(jpeg(noisy, quality=q).astype(int) - noisy).mean() for q in (10, 30, 95)}
    assert errors[10] > errors[30] > errors[95] > 0
    flat = np.full((1, 16, 16, channels), 128, np.uint8)
    np.testing.assert_array_equal(jpeg(flat, quality=10), flat)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", COUNTERMEASURES)
def test_all_keep_shape_and_type_and_leave_their_input_alone(name, channels):
    images, labels = smooth(60, channels), labels_of(60)
    before = images.copy()
    countermeasure = COUNTERMEASURES[name]
    for result in (countermeasure.train_images(images, labels), countermeasure.test_images(images)):
        assert result.shape == images.shape
        assert result.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    if countermeasure.preprocess is None:
        np.testing.assert_array_equal(countermeasure.test_images(images), images)
    changes = name not in ("none", "crop-flip") and not (name == "grey" and channels == 1)
    assert (countermeasure.train_images(images, labels) != images).any() == changes


def plant(images: np.ndarray, labels: np.ndarray, *, level: float = 8, seed: int = 1):
    """Class-wise random signs, the simplest availability attack."""
    noise = level * np.random.default_rng(seed).choice([-1, 1], (CLASSES, *images.shape[1:]))
    return np.clip(images + noise[labels], 0, 255).astype(np.uint8), noise


def class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([images[labels == k].mean(axis=0) for k in range(CLASSES)])


def test_class_means_are_the_same_afterwards_and_what_is_within_a_class_stays():
    labels = labels_of(300)
    released, _ = plant(smooth(300, 3), labels)
    result = subtract_class_means(released, labels)
    means = class_means(result, labels)
    assert np.ptp(class_means(released, labels), axis=0).max() > 14
    assert np.ptp(means, axis=0).max() <= 1  # a class is shifted as one, so 8 bits keep up to half a level of each
    within = released[labels == 0][0].astype(int) - released[labels == 0][1]
    np.testing.assert_allclose(result[labels == 0][0].astype(int) - result[labels == 0][1], within, atol=1)


def linear_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on the second half of least squares on the first."""
    x = np.c_[images.reshape(len(images), -1) / 255 - 0.5, np.ones(len(images))]
    half = len(x) // 2
    weights = np.linalg.lstsq(x[:half], np.eye(CLASSES)[labels[:half]], rcond=None)[0]
    return float(((x[half:] @ weights).argmax(axis=1) == labels[half:]).mean())


def test_orthogonal_projection_leaves_no_class_wise_noise_that_is_linearly_separable():
    images, labels = smooth(900, 1), labels_of(900)
    released, _ = plant(images, labels)
    assert linear_accuracy(images, labels) < 0.45  # chance is 1/3
    assert linear_accuracy(released, labels) > 0.99
    cleaned = orthogonal_projection(released, labels)
    assert linear_accuracy(cleaned, labels) < 0.5
    # It takes away as many directions as there are classes, not the image.
    assert cleaned.std() > 0.7 * released.std()


def noise_left(images: np.ndarray, labels: np.ndarray, noise: np.ndarray) -> float:
    """Share of the class-wise noise's energy in images whose content does not depend on the class.

    Where a projection P acted on them it is <noise, P noise> / |noise|^2, hence |P noise|^2 / |noise|^2.
    """
    difference = noise - noise.mean(axis=0)
    return float((class_means(images, labels) * difference).sum() / (difference**2).sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_key_recovery_removes_class_wise_noise_from_a_secret_subspace_and_not_the_image(channels):
    n, rng, labels = 16 * channels, np.random.default_rng(2), labels_of(900)
    images = smooth(900, channels)
    noise = np.empty((CLASSES, 8, 8, channels))
    for row in (0, 4):
        for column in (0, 4):
            basis = np.linalg.qr(rng.normal(size=(n, n // 3)))[0]
            patches = rng.normal(size=(CLASSES, n // 3)) @ basis.T
            noise[:, row : row + 4, column : column + 4] = (10 * patches / patches.std()).reshape(-1, 4, 4, channels)
    released = np.clip(images + noise[labels], 0, 255).round().astype(np.uint8)
    assert noise_left(released, labels, noise) > 0.9
    cleaned = whitened_key_recovery(released, labels)
    assert noise_left(cleaned, labels, noise) < 0.2
    assert np.ptp(cleaned, axis=0).max() > 20
    content = (images - images.mean(axis=0)).ravel()
    assert np.corrcoef(content, (cleaned - cleaned.mean(axis=0)).ravel())[0, 1] > 0.3


def test_key_recovery_leaves_images_that_do_not_divide_into_patches():
    images = smooth(60, 1, size=6)
    np.testing.assert_array_equal(whitened_key_recovery(images, labels_of(60)), images)


def test_lists_are_checked():
    assert parse_countermeasures("none, jpeg-10,none") == ["none", "jpeg-10"]
    with pytest.raises(UserError, match="--countermeasures: unknown 'jpeg-11': did you mean 'jpeg-10'"):
        parse_countermeasures("none,jpeg-11")
    with pytest.raises(UserError, match="--countermeasures: names none"):
        parse_countermeasures(" ,")
