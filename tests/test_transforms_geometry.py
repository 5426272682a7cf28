"""Crop, flip and resize: what they cut, what they average, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ugejax.transforms.geometry import crop_flip, random_crop, random_flip, resize

ALL = {
    "crop": jax.jit(lambda key, x: random_crop(key, x, padding=2)),
    "flip": jax.jit(random_flip),
    "crop_flip": jax.jit(crop_flip, static_argnames="padding"),
}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 1, (16, 8, 10, 3)).astype(np.float32)


def windows(image, padding):
    """Every crop that the padded image holds, by its corner."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = image.shape
    span = range(2 * padding + 1)
    return {(top, left): padded[top : top + height, left : left + width] for top in span for left in span}


def test_crop_is_a_window_of_the_padded_image_and_all_windows_occur(images):
    one = images[0]
    cropped = np.asarray(ALL["crop"](jax.random.key(1), np.stack([one] * 1500)))
    candidates = windows(np.asarray(one), 2)
    counts = dict.fromkeys(candidates, 0)
    for corner, window in candidates.items():
        counts[corner] = int(np.sum(np.all(cropped == window, axis=(1, 2, 3))))
    assert sum(counts.values()) == 1500
    # 60 expected for each of the 25 corners, standard deviation 7.6.
    assert min(counts.values()) > 20 and max(counts.values()) < 100


def test_crop_without_padding_changes_nothing(images):
    np.testing.assert_array_equal(jax.jit(lambda x: random_crop(jax.random.key(0), x, padding=0))(images), images)


def test_flip_mirrors_about_half_of_the_images(images):
    one = np.stack([images[0]] * 1000)
    flipped = np.asarray(ALL["flip"](jax.random.key(1), one))
    kept = np.all(flipped == np.asarray(one), axis=(1, 2, 3))
    mirrored = np.all(flipped == np.asarray(one)[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(kept ^ mirrored)
    assert 420 < mirrored.sum() < 580


@pytest.mark.parametrize(("shape", "padding"), [((32, 32), 4), ((64, 64), 8), ((8, 8), 1), ((4, 4), 1), ((64, 16), 2)])
def test_default_padding_scales_with_the_shorter_side(shape, padding):
    white = np.ones((200, *shape, 1), np.float32)
    key = jax.random.key(3)
    cropped = np.asarray(ALL["crop_flip"](key, white))
    np.testing.assert_array_equal(cropped, ALL["crop_flip"](key, white, padding=padding))
    black_columns = np.sum(np.all(cropped == 0, axis=(1, 3)), axis=1)
    assert black_columns.max() == padding


def test_crop_and_flip_are_drawn_independently():
    """All corners occur both mirrored and not."""
    one = np.random.default_rng(0).uniform(size=(8, 8, 1)).astype(np.float32)
    results = np.asarray(ALL["crop_flip"](jax.random.key(1), np.stack([one] * 600), padding=1))
    for window in windows(np.asarray(one), 1).values():
        assert np.any(np.all(results == window, axis=(1, 2, 3)))
        assert np.any(np.all(results == window[:, ::-1], axis=(1, 2, 3)))


@pytest.mark.parametrize("name", ALL)
def test_shape_range_and_dtype_are_kept(name, images):
    out = ALL[name](jax.random.key(0), images)
    assert out.shape == images.shape and out.dtype == images.dtype
    assert np.all(out >= 0) and np.all(out <= 1)


@pytest.mark.parametrize("name", ALL)
def test_same_key_transforms_original_and_released_alike(name, images):
    """A transform is linear in the images once its key is fixed, so delta is moved with its image."""
    key = jax.random.key(7)
    delta = 0.03 * np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    moved = ALL[name](key, images + delta) - ALL[name](key, images)
    np.testing.assert_allclose(moved, ALL[name](key, delta), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_gradient_is_the_transpose(name, images):
    """<v, T x> = <T' v, x> with T' v the gradient of <v, T x>; and what is cut off gets no gradient."""
    ones = np.ones_like(images)
    v = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
    key = jax.random.key(5)
    gradient = jax.grad(lambda x: jnp.vdot(v, ALL[name](key, x)))(images)
    np.testing.assert_allclose(np.vdot(gradient, images), np.vdot(v, ALL[name](key, images)), rtol=1e-4, atol=1e-3)
    kept = jax.grad(lambda x: jnp.sum(ALL[name](key, x)))(images)
    assert set(np.unique(kept)) <= {0.0, 1.0}
    np.testing.assert_allclose(np.sum(kept), np.sum(ALL[name](key, ones)))


def test_vmap_and_pmap_agree_with_single_calls(images):
    """With `crop_flip`, which contains the others; `test_variants` has it without `jax.jit`."""
    keys = jax.random.split(jax.random.key(3), 4)
    shards = images.reshape(4, 4, *images.shape[1:])
    single = jax.jit(crop_flip)
    plain = np.stack([single(key, shard) for key, shard in zip(keys, shards, strict=True)])
    assert np.any(single(keys[1], shards[0]) != plain[0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(crop_flip))(keys, shards), plain)
    devices = jax.local_devices()[:4]
    count = len(devices)
    np.testing.assert_array_equal(jax.pmap(crop_flip, devices=devices)(keys[:count], shards[:count]), plain[:count])


def test_resize_is_bilinear_reduction_and_enlargement_by_every_size_down_to_half():
    """As Pillow does it in floating point."""
    one = np.random.default_rng(0).uniform(size=(8, 12)).astype(np.float32)
    results = np.asarray(jax.jit(resize)(jax.random.key(0), np.stack([one] * 60)[..., None]))[..., 0]

    def there_and_back(rows, columns):
        small = Image.fromarray(one).resize((columns, rows), Image.Resampling.BILINEAR)
        return np.asarray(small.resize((12, 8), Image.Resampling.BILINEAR))

    sizes = {(round(8 * factor), round(12 * factor)) for factor in np.linspace(0.5001, 0.9999, 500)}
    matches = np.array([np.abs(results - there_and_back(*size)).max(axis=(1, 2)) < 1e-5 for size in sizes])
    np.testing.assert_array_equal(matches.sum(axis=0), 1)
    assert matches.any(axis=1).all()
