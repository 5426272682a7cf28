"""Hackers who know all but the key, against planted perturbations of known form in synthetic natural images."""

import dataclasses

import numpy as np
import pytest
from hacker_examples import CLASSES, SIZE, data_of, labels_of, natural

from ugejax.countermeasures import COUNTERMEASURES
from ugejax.countermeasures.class_means import class_textures
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.natural import natural_statistics
from ugejax.training import decode

ADAPTIVE = ("class-means", "exact-word", "orthogonal-projection", "key-recovery", "spectrum-notch")


def class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([decode(images[labels == k]).mean(axis=0) for k in range(CLASSES)])


def share_left(originals: np.ndarray, images: np.ndarray, texture: np.ndarray) -> float:
    """How much of a class-wise texture [K, H, W, C] is left in the class means, 1 where it is untouched."""
    labels = labels_of(len(images))
    left = class_means(images, labels) - class_means(originals, labels)
    return float((left * texture).sum() / (texture**2).sum())


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two image sets less their mean images."""
    a, b = decode(a), decode(b)
    return float(np.corrcoef((a - a.mean(axis=0)).ravel(), (b - b.mean(axis=0)).ravel())[0, 1])


def texture_of(kind: str, channels: int, *, amplitude: float = 8) -> np.ndarray:
    """Class-wise textures of `amplitude` grey levels: stripes of 2 pixels, off the even grid, or random blocks of 4."""
    rng = np.random.default_rng(1)
    if kind == "stripes":
        wave = np.where((np.arange(SIZE) + 1) // 2 % 2, 1.0, -1.0)
        signs = (
            np.array([[1, 1, -1], [-1, 1, 1], [1, -1, 1]])[:, :channels]
            if channels == 3
            else np.array([[1], [-1], [1]])
        )
        stripes = wave[None, :, None, None] * signs[:, None, None, :]
        result = np.broadcast_to(stripes, (CLASSES, SIZE, SIZE, channels)).copy()
        result[2] = result[2].swapaxes(0, 1)
    else:
        blocks = rng.choice([-1.0, 1.0], (CLASSES, SIZE // 4, SIZE // 4, channels))
        result = blocks.repeat(4, axis=1).repeat(4, axis=2)
    return result * amplitude / 255


def plant(originals: np.ndarray, texture: np.ndarray) -> np.ndarray:
    return to_uint8(decode(originals) + texture[labels_of(len(originals))])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "amplitude"), [("stripes", 8), ("stripes", 1), ("blocks", 8)])
def test_class_means_lose_a_texture_and_keep_what_is_natural_of_them(kind, amplitude, channels):
    originals, texture = natural(900, channels), texture_of(kind, channels, amplitude=amplitude)
    released = plant(originals, texture)
    assert share_left(originals, released, texture) > 0.9
    data = data_of(released)
    prepared = COUNTERMEASURES["class-means"].prepared(data)
    assert abs(share_left(originals, prepared.images, texture)) < 0.2
    labels = labels_of(900)
    assert similarity(class_means(prepared.images, labels), class_means(originals, labels)) > 0.85
    # A class is shifted as one, and a test image has no class.
    np.testing.assert_allclose(
        prepared.images[0] - prepared.images[3], decode(released)[0] - decode(released)[3], atol=1e-6
    )
    assert prepared.test_images is data.test_images


def test_the_oracle_takes_exactly_the_mean_perturbation():
    originals, texture = natural(90, 3), texture_of("blocks", 3)
    released = plant(originals, texture)
    data = data_of(released)
    order = np.random.default_rng(0).permutation(len(released))
    data = dataclasses.replace(data, clean_images=originals[order], clean_indices=order)
    prepared = COUNTERMEASURES["class-means-oracle"].prepared(data)
    labels = labels_of(len(released))
    np.testing.assert_allclose(class_means(prepared.images, labels), class_means(originals, labels), atol=1e-6)
    # A perturbation that is another one in each image stays, but for its mean.
    noise = np.random.default_rng(1).integers(-8, 9, originals.shape)
    other = np.clip(originals + noise, 0, 255).astype(np.uint8)
    prepared = COUNTERMEASURES["class-means-oracle"].prepared(dataclasses.replace(data, images=other))
    assert np.square(prepared.images - decode(originals)).mean() > 0.9 * np.square(noise / 255).mean()


def test_what_class_means_finds_of_a_class_does_not_hang_on_how_many_images_the_others_have():
    x, reference = decode(natural(900)), natural_statistics(decode(natural(300)))
    labels = np.repeat([0, 1, 2], [600, 297, 3])
    together = class_textures(x, labels, reference)
    for label in range(3):
        own = labels == label
        np.testing.assert_allclose(class_textures(x[own], labels[own], reference)[0], together[label], atol=1e-9)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_clean_controls_keep_their_images(name):
    originals = natural(900)
    prepared = COUNTERMEASURES[name].prepared(data_of(originals))
    assert similarity(prepared.images, originals) > 0.97
    assert similarity(prepared.test_images, data_of(originals).test_images) > 0.97
    labels = labels_of(900)
    assert (name == "orthogonal-projection") or similarity(
        class_means(prepared.images, labels), class_means(originals, labels)
    ) > 0.97


def linear_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on the second half of least squares on the first."""
    x = np.c_[decode(images).reshape(len(images), -1) - 0.5, np.ones(len(images))]
    half = len(x) // 2
    weights = np.linalg.solve(
        x[:half].T @ x[:half] + 1e-2 * np.eye(x.shape[1]), x[:half].T @ np.eye(CLASSES)[labels[:half]]
    )
    return float(((x[half:] @ weights).argmax(axis=1) == labels[half:]).mean())


def test_orthogonal_projection_leaves_little_that_is_linearly_separable_and_changes_little_else():
    # Without a class of their own: what separates them is the noise.
    originals = natural(901)[:-1][np.random.default_rng(0).permutation(900)]
    labels = labels_of(900)
    noise = 4 / 255 * np.random.default_rng(1).choice([-1.0, 1.0], (CLASSES, SIZE, SIZE, 3))
    released = plant(originals, noise)
    assert linear_accuracy(originals, labels) < 0.45  # chance is 1/3
    assert linear_accuracy(released, labels) > 0.99
    prepared = COUNTERMEASURES["orthogonal-projection"].prepared(data_of(released))
    assert share_left(originals, prepared.images, noise) < 0.4
    assert similarity(prepared.images, originals) > 0.98
    # What tells K classes apart has K - 1 directions: they are gone from training and test images alike.
    change = (decode(released) - prepared.images).reshape(900, -1)
    change_of_tests = (decode(data_of(released).test_images) - prepared.test_images).reshape(90, -1)
    assert np.linalg.matrix_rank(np.concatenate([change, change_of_tests]), tol=1e-3) == CLASSES - 1


def secret_bases(channels: int, hidden: int) -> np.ndarray:
    """One secret subspace for each 4x4 patch, orthonormal [P, 16 C, hidden]."""
    rng = np.random.default_rng(2)
    return np.linalg.qr(rng.normal(size=((SIZE // 4) ** 2, 16 * channels, hidden)))[0]


def cut(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 4, 4, w // 4, 4, c).swapaxes(2, 3).reshape(n, -1, 16 * c)


def glue(patches: np.ndarray, channels: int) -> np.ndarray:
    side = SIZE // 4
    return patches.reshape(-1, side, side, 4, 4, channels).swapaxes(2, 3).reshape(-1, SIZE, SIZE, channels)


def test_key_recovery_finds_a_secret_subspace_of_noise_without_class_means():
    originals, bases = natural(900), secret_bases(3, 8)
    noise = np.einsum("pdh,nph->npd", bases, np.random.default_rng(3).normal(0, 6 / 255, (900, 16, 8)))
    released = to_uint8(decode(originals) + glue(noise, 3))
    prepared = COUNTERMEASURES["key-recovery"].prepared(data_of(released))

    def noise_in(images: np.ndarray) -> float:
        """The share of the planted noise that is left."""
        return float((cut(images - decode(originals)) * noise).sum() / (noise**2).sum())

    assert noise_in(decode(released)) > 0.95
    assert noise_in(prepared.images) < 0.35
    assert similarity(prepared.images, originals) > 0.95


@pytest.mark.parametrize("kind", ["stripes", "blocks"])
def test_key_recovery_projects_class_textures_out_of_training_and_test_images(kind):
    originals, texture = natural(900), texture_of(kind, 3)
    data = data_of(plant(originals, texture))
    marked = dataclasses.replace(data, test_images=plant(data.test_images, texture))
    prepared = COUNTERMEASURES["key-recovery"].prepared(data)
    of_marked = COUNTERMEASURES["key-recovery"].prepared(marked)
    assert abs(share_left(originals, prepared.images, texture)) < 0.15
    # Test images hold no texture; were it in them, it would go.
    assert abs(share_left(prepared.test_images, of_marked.test_images, texture)) < 0.15
    assert similarity(prepared.test_images, data.test_images) > 0.97


def test_key_recovery_takes_images_that_divide_into_no_patches():
    data = data_of(natural(60, 1, size=7))
    assert COUNTERMEASURES["key-recovery"].prepared(data).images.shape == (60, 7, 7, 1)


def test_the_notch_removes_a_texture_at_any_phase_and_nothing_else():
    originals, labels = natural(900), labels_of(900)
    shift = np.random.default_rng(4).integers(0, SIZE, (900, 1))
    wave = np.cos(2 * np.pi * 5 * (np.arange(SIZE) + shift) / SIZE) * (labels == 0)[:, None] * 8 / 255
    noise = np.broadcast_to(wave[:, None, :, None], originals.shape) * np.array([1, -1, 1])
    prepared = COUNTERMEASURES["spectrum-notch"].prepared(data_of(to_uint8(decode(originals) + noise)))
    left = ((prepared.images - decode(originals)) * noise).sum() / (noise**2).sum()
    assert abs(left) < 0.15
    assert similarity(prepared.images, originals) > 0.99


def test_the_notch_leaves_images_without_lines_alone():
    data = data_of(natural(900))
    prepared = COUNTERMEASURES["spectrum-notch"].prepared(data)
    np.testing.assert_allclose(prepared.images, decode(data.images), atol=1e-5)
    np.testing.assert_allclose(prepared.test_images, decode(data.test_images), atol=1e-5)


@pytest.mark.parametrize("name", ["key-recovery", "spectrum-notch"])
def test_many_classes_of_few_images_do_not_cost_the_images(name):
    originals = natural(400, size=8)
    data = data_of(originals, labels=np.arange(400, dtype=np.int32) % 200)
    prepared = COUNTERMEASURES[name].prepared(data)
    assert similarity(prepared.test_images, data.test_images) > 0.6
    spread = [(decode(images) - decode(images).mean(axis=0)).std() for images in (prepared.images, originals)]
    assert spread[0] > 0.4 * spread[1]


def test_random_projections_keep_half_of_every_patch_by_the_seed():
    data = data_of(natural(90))
    (first, again, other) = (
        COUNTERMEASURES["random-projections"].prepared(dataclasses.replace(data, seed=seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.images, again.images)
    assert np.abs(first.images - other.images).max() > 0.01
    mean = decode(data.reference).mean(axis=0)
    assert np.linalg.matrix_rank(cut(first.images - mean).reshape(-1, 48), tol=1e-3) == 24
    twice = COUNTERMEASURES["random-projections"].prepared(first)
    np.testing.assert_allclose(twice.images, first.images, atol=1e-5)


def test_natural_statistics_whiten_natural_images_and_measure_white_noise():
    images = decode(natural(900))
    statistics = natural_statistics(images)
    spectrum = statistics.spectrum(images)
    np.testing.assert_allclose(spectrum.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(statistics.deviation(spectrum) + statistics.mean, images, atol=1e-5)
    noise = np.random.default_rng(0).normal(0, 0.02, images.shape)
    assert statistics.white_noise(images + noise) == pytest.approx(0.02**2, rel=0.1)
    assert statistics.white_noise(images) < 1e-6
