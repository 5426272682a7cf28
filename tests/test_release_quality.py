"""Quality figures against scikit-image and worked constants."""

import json
import warnings

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ugejax.app.release import measure_quality


def pair(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 256, shape)
    images = np.clip(originals + rng.integers(-30, 31, shape), 0, 255)
    return images.astype(np.uint8), originals.astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 8, 8, 1), (4, 32, 32, 3), (2, 9, 40, 3), (3, 7, 7, 1)])
def test_psnr_and_ssim_are_those_of_scikit_image(shape):
    images, originals = pair(*shape)
    quality = measure_quality(images, originals)
    for i, (image, original) in enumerate(zip(images, originals, strict=True)):
        reference = structural_similarity(original, image, data_range=255, channel_axis=-1)
        assert quality.ssim[i] == pytest.approx(reference, abs=1e-9)
        assert quality.psnr[i] == pytest.approx(peak_signal_noise_ratio(original, image, data_range=255), abs=1e-9)


@pytest.mark.parametrize(("height", "width", "window"), [(6, 9, 5), (5, 5, 5), (4, 8, 3), (3, 3, 3)])
def test_small_images_get_the_largest_window_that_fits(height, width, window):
    images, originals = pair(2, height, width, 3)
    reference = structural_similarity(originals[1], images[1], data_range=255, channel_axis=-1, win_size=window)
    assert measure_quality(images, originals).ssim[1] == pytest.approx(reference, abs=1e-9)


def test_the_smallest_images_have_finite_figures():
    for side in (1, 2):
        assert np.isfinite(measure_quality(*pair(2, side, side, 1)).ssim).all()


def test_sizes_of_changes():
    originals = np.full((2, 4, 4, 1), 100, np.uint8)
    images = originals.copy()
    images[0, 0, 0] += 8
    images[0, 1, 1] -= 6
    images[1] += 1
    quality = measure_quality(images, originals)
    assert quality.linf_levels.tolist() == [8, 1]
    np.testing.assert_allclose(quality.l2, [10 / 255, 4 / 255])
    assert quality.psnr[1] == pytest.approx(20 * np.log10(255))


def test_parts_have_the_figures_of_the_whole_and_may_be_empty():
    images, originals = pair(5, 8, 8, 1)
    parts = [measure_quality(images, originals, part) for part in (slice(0, 3), slice(3, 3), slice(3, 5))]
    for name, figures in vars(measure_quality(images, originals)).items():
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), figures)


def test_changes_across_the_whole_range_do_not_wrap():
    quality = measure_quality(np.full((1, 8, 8, 1), 255, np.uint8), np.zeros((1, 8, 8, 1), np.uint8))
    assert quality.linf_levels.tolist() == [255]
    assert quality.psnr.tolist() == [0.0]


def test_untouched_images_leave_the_summary_strict_json():
    images, originals = pair(3, 8, 8, 1)
    images[1] = originals[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = measure_quality(images, originals)
        untouched = measure_quality(originals, originals)
    assert quality.psnr[1] == np.inf and quality.ssim[1] == pytest.approx(1)
    summary = quality.summary()
    assert summary["untouched_images"] == 1
    assert summary["psnr"]["mean"] == pytest.approx(quality.psnr[[0, 2]].mean())
    assert summary["psnr"]["min"] == pytest.approx(quality.psnr.min())
    json.dumps(summary, allow_nan=False)
    assert untouched.summary()["psnr"] == {"mean": None, "min": None}
    assert untouched.summary()["realised_eps"] == {"linf_levels": 0, "linf": 0.0, "l2_max": 0.0}
    json.dumps(untouched.summary(), allow_nan=False)


def test_what_cannot_be_compared():
    images, originals = pair(2, 8, 8, 1)
    with pytest.raises(ValueError, match="one shape"):
        measure_quality(images[:1], originals)
    with pytest.raises(ValueError, match="uint8"):
        measure_quality(images / 255, originals)
