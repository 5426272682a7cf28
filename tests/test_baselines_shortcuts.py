"""Baselines without surrogates, against the equations of their papers, and the step from delta to 8 bits."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.ndimage
from sklearn.linear_model import LogisticRegression

from ugejax.baselines import BASELINES
from ugejax.baselines.ar import ArSettings, autoregressive_noise, generate, processes, response
from ugejax.baselines.cuda import CudaSettings, class_kernels
from ugejax.baselines.lsp import LspSettings, separable_noise
from ugejax.baselines.ops import scores
from ugejax.baselines.release import release, scale_to_l2
from ugejax.errors import UserError

KEY = jax.random.key(3)


def grey_images(n: int, size: int = 16, channels: int = 3) -> np.ndarray:
    """Images far enough from black and white for any of these perturbations."""
    return np.random.default_rng(0).integers(60, 196, (n, size, size, channels)).astype(np.uint8)


def linear_accuracy(delta: np.ndarray, labels: np.ndarray) -> float:
    features = delta.reshape(len(delta), -1) / np.abs(delta).max()
    return LogisticRegression(C=1e4, max_iter=500).fit(features, labels).score(features, labels)


@hypothesis.given(st.integers(0, 2**31 - 1), st.floats(0.02, 2), st.sampled_from(["normal", "sparse", "tiny"]))
@hypothesis.settings(max_examples=60, deadline=None)
def test_l2_ball_is_kept_after_rounding_at_the_price_of_less_than_a_level(seed, eps, kind):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, 5, 5, 3), np.uint8)
    delta = rng.normal(size=images.shape)
    if kind == "sparse":
        delta *= rng.random(images.shape) < 0.05
    delta = scale_to_l2(delta, eps / 10 if kind == "tiny" else eps)
    levels = release(images, delta, eps=eps, norm="l2").astype(int) - images
    assert np.sqrt((levels**2).sum(axis=(1, 2, 3))).max() <= 255 * eps * (1 + 1e-6)
    unclipped = (images + 255 * delta >= 1) & (images + 255 * delta <= 254)
    assert np.abs(levels - 255 * delta)[unclipped].max(initial=0) < 1
    assert ((levels == 0) | (np.sign(levels) == np.sign(delta))).all()


def test_l2_noise_is_rounded_to_nearest_where_that_stays_in_the_ball():
    images = np.full((1, 1, 4, 1), 100, np.uint8)
    delta = np.array([3.4, -2.6, 1.0, 0.0], np.float32).reshape(images.shape) / 255
    roomy, tight = (
        release(images, delta, eps=eps, norm="l2").ravel().astype(int) - 100 for eps in (5 / 255, 4.41 / 255)
    )
    np.testing.assert_array_equal(roomy, [3, -3, 1, 0])
    np.testing.assert_array_equal(release(images, delta, eps=4.4 / 255, norm="l2").ravel() - 100.0, [3, -3, 1, 0])
    np.testing.assert_array_equal(tight, [3, -3, 1, 0])  # norm sqrt(19) = 4.36 fits; of 4.3 only [3, -2, 1] does
    np.testing.assert_array_equal(release(images, delta, eps=4.3 / 255, norm="l2").ravel() - 100.0, [3, -2, 1, 0])


def test_noise_that_is_not_finite_is_refused_and_names_the_image():
    images, delta = grey_images(3), np.zeros((3, 16, 16, 3))
    delta[1, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="image 1 is not finite"):
        release(images, delta, eps=0.1, norm="linf")


def test_negative_noise_survives_and_the_batch_does_not_matter():
    images = grey_images(7)
    delta = np.random.default_rng(1).uniform(-8, 8, images.shape) / 255
    released = release(images, delta, eps=8 / 255, norm="linf")
    np.testing.assert_allclose(released.astype(int) - images, 255 * delta, atol=0.5 + 1e-4)
    np.testing.assert_array_equal(release(images, delta, eps=8 / 255, norm="linf", batch_size=3), released)


def test_class_noise_is_one_tensor_per_class_and_sample_noise_is_not():
    images, labels = grey_images(30), np.arange(30, dtype=np.int32) % 5
    for name, alike in (("random-class", True), ("random", False)):
        delta = BASELINES[name].protect(KEY, images, labels, 5).astype(int) - images
        assert (delta[0] == delta[5]).all() == alike
        assert (delta[0] != delta[1]).any()
        assert abs(delta.mean()) < 1
        assert delta.min() == -8
        assert delta.max() == 8


@pytest.mark.parametrize(("num_classes", "block"), [(10, 4), (20, 8)])
def test_lsp_noise_is_linearly_separable_and_constant_on_blocks(num_classes, block):
    labels = np.random.default_rng(0).integers(0, num_classes, 300).astype(np.int32)
    labels[labels == 3] = 2  # an absent class and an unbalanced one
    noise = separable_noise(KEY, labels, num_classes, (16, 16, 3), LspSettings(block=block))
    assert linear_accuracy(noise, labels) == 1
    blocks = noise[:, ::block, ::block]
    np.testing.assert_array_equal(noise, blocks.repeat(block, axis=1).repeat(block, axis=2))
    assert (blocks[:, 0, 0, 0] != blocks[:, 0, 0, 1]).all()


def test_lsp_release_has_the_published_norm_and_stays_separable_in_8_bits():
    images, labels = grey_images(200), np.arange(200, dtype=np.int32) % 10
    delta = BASELINES["lsp"].protect(KEY, images, labels, 10, settings=LspSettings(block=4)).astype(float) - images
    rms = np.sqrt((delta**2).mean(axis=(1, 2, 3)))
    assert rms.max() <= 6 * (1 + 1e-6)
    assert rms.min() > 5.9
    assert linear_accuracy(delta, labels) == 1


def test_lsp_needs_blocks_enough():
    with pytest.raises(UserError, match="blocks of 8 pixels leave 8x8 images 1 dimensions, too few for 10 classes"):
        BASELINES["lsp"].protect(KEY, grey_images(10, 8, 1), np.arange(10, dtype=np.int32), 10)


def test_ar_recursion_against_a_plain_loop():
    rng = np.random.default_rng(0)
    beta, start = rng.normal(0, 0.3, (2, 3, 3, 3)), rng.normal(size=(2, 6, 7, 3))
    expected = start.copy()
    for n, row, column, channel in itertools.product(range(2), range(2, 6), range(2, 7), range(3)):
        window = expected[n, row - 2 : row + 1, column - 2 : column + 1, channel]
        expected[n, row, column, channel] = sum(
            beta[n, channel, i, j] * window[i, j] for i, j in itertools.product(range(3), range(3)) if (i, j) != (2, 2)
        )
    np.testing.assert_allclose(generate(beta, start, margin=0), expected, rtol=1e-12)
    np.testing.assert_allclose(generate(beta, start, margin=2), expected[:, 2:, 2:], rtol=1e-12)


def test_ar_noise_answers_its_own_filter_by_zero_and_no_other():
    labels = np.arange(24, dtype=np.int32) % 4
    noise, coefficients = autoregressive_noise(KEY, labels, 4, (16, 16, 3), ArSettings(pool=2))
    np.testing.assert_allclose(coefficients.sum(axis=(2, 3)), 1)
    np.testing.assert_allclose(np.sqrt((noise**2).sum(axis=(1, 2, 3))), 1, rtol=1e-5)
    answers = np.abs(response(coefficients, noise.astype(np.float64))).sum(axis=(1, 2))  # [N, K]
    for n, y in enumerate(labels):
        assert answers[n, y] < 1e-5
        assert np.delete(answers[n], y).min() > 1
    assert (noise[0] != noise[4]).any()  # another start within the class


def test_ar_gives_up_where_no_process_keeps_the_bound():
    with pytest.raises(UserError, match="no process stays within bound 0.001"):
        processes(KEY, 2, (8, 8, 1), ArSettings(bound=1e-3, trials=1))


def test_ops_score_is_that_of_the_paper():
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 3)).astype(np.uint8)
    score = scores(images)
    x = images / 255
    for index, colour in enumerate(itertools.product((0, 1), repeat=3)):
        change = np.abs(np.array(colour) - x)
        expected = change.mean(axis=(0, 3)) / change.std(axis=(0, 3))
        np.testing.assert_allclose(score[..., index], expected, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_ops_sets_one_pixel_per_class_to_an_extreme_colour_and_its_noise_is_linearly_separable(channels):
    labels = np.arange(40, dtype=np.int32) % 8
    images = np.tile(grey_images(1, 8, channels), (40, 1, 1, 1))  # alike, so that all classes want the same pixel
    released = BASELINES["ops"].protect(KEY, images, labels, 8)
    changed = (released != images).any(axis=3)
    assert (changed.sum(axis=(1, 2)) == 1).all()
    for k in range(8):
        assert (changed[labels == k] == changed[k]).all()
    colours = released[changed]
    assert np.isin(colours, [0, 255]).all()
    assert len({(int(changed[k].argmax()), colours[k].tobytes()) for k in range(8)}) == 8
    assert linear_accuracy(released.astype(float) - images, labels) == 1


def test_cuda_is_scipys_correlation_over_its_largest_value():
    images, labels = grey_images(12, 8), np.arange(12, dtype=np.int32) % 3
    images[5] = 0
    released = BASELINES["cuda"].protect(KEY, images, labels, 3)
    kernels = class_kernels(KEY, 3, CudaSettings())
    for image, y, result in zip(images, labels, released, strict=True):
        blurred = scipy.ndimage.correlate(image.astype(np.float64), kernels[y][..., None], mode="constant")
        np.testing.assert_allclose(result, blurred * (255 / max(blurred.max(), 1)), atol=0.51)
    assert not released[5].any()


def test_cuda_kernels_have_one_entry_of_one_and_small_others():
    kernels = class_kernels(KEY, 50, CudaSettings(blur=0.2, kernel_size=5)).reshape(50, 25)
    np.testing.assert_array_equal((kernels == 1).sum(axis=1), 1)
    others = kernels[kernels != 1]
    assert others.min() >= 0
    assert 0.19 < others.max() <= 0.2
    assert len(set(kernels.argmax(axis=1).tolist())) > 10
    with pytest.raises(UserError, match="kernel_size 2 must be odd"):
        BASELINES["cuda"].protect(KEY, grey_images(2, 8), np.arange(2), 2, settings=CudaSettings(kernel_size=2))
