"""Blur, grey, bit depth and JPEG: the same as scipy's and Pillow's, and their gradients."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve1d
from sklearn.datasets import load_sample_images

from ugejax.transforms import TRANSFORMS
from ugejax.transforms.filters import blur, grey
from ugejax.transforms.jpeg import CHROMA_TABLE, LUMA_TABLE, jpeg, quantisation_table
from ugejax.transforms.quantisation import bit_depth, round_cubic, round_straight_through


def photographs(height: int, width: int) -> np.ndarray:
    """Windows of two photographs that come with scikit-learn, reduced eightfold: uint8 [10, height, width, 3]."""
    images = []
    for photograph in load_sample_images().images:
        small = np.asarray(Image.fromarray(photograph).resize((80, 53), Image.Resampling.LANCZOS))
        corners = [(0, 0), (0, 40), (15, 20), (53 - height, 0), (53 - height, 80 - width)]
        images += [small[top : top + height, left : left + width] for top, left in corners]
    return np.stack(images)


def as_float(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images, jnp.float32) / 255


def test_blur_agrees_with_scipy():
    x = np.random.default_rng(0).uniform(size=(2, 6, 9, 3))
    expected = x
    for axis in (1, 2):
        expected = convolve1d(expected, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    np.testing.assert_allclose(blur(jnp.asarray(x, jnp.float32)), expected, atol=1e-6)


def test_grey_is_pillows_before_rounding():
    images = photographs(24, 21)
    levels = 255 * np.asarray(grey(as_float(images)))
    for image, ours in zip(images, levels, strict=True):
        expected = np.asarray(Image.fromarray(image).convert("L"), float)
        assert np.abs(ours - expected[..., None]).max() <= 0.5 + 0.01  # Pillow's weights are whole 65536ths
    one_channel = as_float(images[..., :1])
    np.testing.assert_array_equal(grey(one_channel), one_channel)


def test_bit_depth_takes_the_nearest_level_and_lets_the_gradient_through():
    x = as_float(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))
    reduced = bit_depth(x, bits=2)
    np.testing.assert_array_equal(np.round(255 * reduced.ravel()), np.repeat([0, 85, 170, 255], [43, 85, 85, 43]))
    assert np.unique(bit_depth(x, bits=3)).size == 8
    gradient = jax.grad(lambda x: (bit_depth(x, bits=2) ** 2).sum())(x)
    np.testing.assert_allclose(gradient, 2 * reduced, rtol=1e-6)


def test_roundings():
    values = jnp.array([-1.75, -0.25, 0.0, 0.25, 0.5, 2.75])
    np.testing.assert_array_equal(round_straight_through(values), [-2, 0, 0, 0, 0, 3])
    np.testing.assert_array_equal(jax.vmap(jax.grad(round_straight_through))(values), np.ones(6))
    cubes = np.array([1 / 64, -1 / 64, 0, 1 / 64, 1 / 8, -1 / 64])
    np.testing.assert_allclose(round_cubic(values), np.array([-2, 0, 0, 0, 0, 3]) + cubes)
    np.testing.assert_allclose(jax.vmap(jax.grad(round_cubic))(values), [3 / 16, 3 / 16, 0, 3 / 16, 3 / 4, 3 / 16])


def pillow(images: np.ndarray, **options) -> np.ndarray:
    files = [io.BytesIO() for _ in images]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image.squeeze()).save(file, "JPEG", **options)
    return np.stack([np.asarray(Image.open(file)).reshape(images.shape[1:]) for file in files])


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 51, 75, 95, 100])
def test_tables_are_those_that_pillow_writes(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    written = getattr(Image.open(file), "quantization")  # noqa: B009  # an attribute of JPEG files alone
    for index, table in enumerate((LUMA_TABLE, CHROMA_TABLE)):
        np.testing.assert_array_equal(np.reshape(written[index], (8, 8)), quantisation_table(table, quality))


@pytest.mark.parametrize(
    ("quality", "shape", "subsample"),
    [
        *((quality, (32, 32, 3), True) for quality in (10, 30, 50, 75)),
        (10, (32, 32, 3), False),
        (10, (34, 20, 3), True),  # whole blocks neither of luma nor of chroma
        (30, (17, 19, 3), True),
        (30, (28, 28, 1), True),
    ],
)
def test_jpeg_agrees_with_pillow_within_a_few_grey_levels(quality, shape, subsample):
    images = photographs(*shape[:2])[..., : shape[2]]
    expected = pillow(images, quality=quality, **({} if subsample else {"subsampling": 0})).astype(float)
    named = TRANSFORMS[f"jpeg-{quality}"]

    def ours_of(x):
        return (
            named(jax.random.key(0), x, jnp.ones((len(x), 1)))[0]
            if subsample
            else jpeg(x, quality=quality, subsample=False)
        )

    ours = 255 * np.asarray(jax.jit(ours_of)(as_float(images)))
    difference, change = np.abs(ours - expected), np.abs(expected - images).mean()
    print(
        f"quality {quality}, {shape}, subsample {subsample}: off by {difference.mean():.2f} grey levels on average, "
        f"{np.quantile(difference, 0.99):.1f} at 99 %, {difference.max():.0f} at most; JPEG itself {change:.2f}"
    )
    assert difference.mean() < min(1, 0.15 * change)
    assert np.quantile(difference, 0.99) < (3 if quality <= 30 else 8)


def test_smooth_jpeg_stays_near_the_exact_one():
    x = as_float(photographs(32, 32))
    exact, smooth = jax.jit(lambda x: [255 * jpeg(x, quality=30, smooth=smooth) for smooth in (False, True)])(x)
    assert 0.1 < np.abs(exact - smooth).mean() < 3


def test_gradient_of_jpeg_on_luma_is_the_identity_and_smooth_follows_the_cubic():
    weights = np.random.default_rng(0).normal(size=(1, 12, 8, 1)).astype(np.float32)
    mid = as_float(np.random.default_rng(1).integers(100, 150, (1, 12, 8, 1)))
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(weights, jpeg(x, quality=30))))(mid)
    np.testing.assert_allclose(gradient[:, :8], weights[:, :8], atol=1e-5)
    # Flat blocks have one coefficient, 8 (level - 128), in steps of 16: 0 at 128, half a step at 129.
    smooth_mean = jax.jit(jax.value_and_grad(lambda x: jpeg(x, quality=50, smooth=True).mean()))
    for level, expected_level, expected_gradient in ((128, 128, 0), (129, 128.25, 0.75)):
        flat = jnp.full((1, 8, 8, 1), level / 255)
        value, gradient = smooth_mean(flat)
        assert 255 * float(value) == pytest.approx(expected_level, abs=1e-3)
        assert float(gradient.sum()) == pytest.approx(expected_gradient, abs=1e-4)
