"""The source `digits-photos`: digits in crops of photographs, of which training and test images share nothing."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ugejax.data import Dataset, Source, Splits, digits_photos, load, load_all
from ugejax.data.digits_photos import PHOTOGRAPHS, Blends, blend, choose, enlarge, read_digits, read_photographs
from ugejax.errors import UserError

SIDE = 32


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load(Source("digits-photos"))


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    return read_photographs()


@pytest.fixture(scope="module")
def parts(photographs) -> tuple[Blends, Blends]:
    return choose(read_digits()[1], [photograph.shape[:2] for photograph in photographs])


def sha256(dataset: Dataset) -> str:
    return hashlib.sha256(dataset.images.tobytes() + dataset.labels.astype("<i4").tobytes()).hexdigest()


def seen(part: Blends, photographs: list[np.ndarray]) -> list[np.ndarray]:
    """Which pixels of each photograph lie in an image of the part."""
    masks = [np.zeros(photograph.shape[:2], bool) for photograph in photographs]
    for photograph, (row, column) in zip(part.photographs, part.crops, strict=True):
        window = masks[photograph][row : row + SIDE, column : column + SIDE]
        assert window.shape == (SIDE, SIDE)
        window[:] = True
    return masks


def test_the_images_are_the_recorded_bytes_as_many_of_each_class(splits):
    train, test = splits.train, splits.test
    assert (train.images.shape, test.images.shape) == ((4000, 32, 32, 3), (1000, 32, 32, 3))
    assert train.images.dtype == test.images.dtype == np.uint8
    assert train.labels.dtype == test.labels.dtype == np.int32
    assert train.class_names == test.class_names == tuple("0123456789")
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert sha256(train) == "1cd3d9daec69d9655a010750aaff8c5dbab7736f89b59cec17ce20f34e358e02"
    assert sha256(test) == "d0c8f6a7d92574523dcfbcb6e5680038064c3f0096f3bbda76b57185b0d6de60"


def test_training_and_test_images_share_no_digit_and_no_pixel_of_a_photograph(parts, photographs):
    train, test = parts
    assert not set(train.digits) & set(test.digits)
    assert len(set(train.digits) | set(test.digits)) == 1797
    for name, trained, tested in zip(PHOTOGRAPHS, *(seen(part, photographs) for part in parts), strict=True):
        assert trained.any() and tested.any(), name
        assert not (trained & tested).any(), name


def test_the_seed_of_a_source_draws_subsets_and_leaves_the_images_alone(splits):
    first, again, other = (load(Source("digits-photos", n_train=50, n_test=20, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert first.train_indices.tolist() != other.train_indices.tolist()
    for few in (first, other):
        np.testing.assert_array_equal(few.train.images, splits.train.images[few.train_indices])
        assert np.bincount(few.train.labels).tolist() == [5] * 10
        assert np.bincount(few.test.labels).tolist() == [2] * 10
    np.testing.assert_array_equal(load_all(Source("digits-photos")).images, splits.test.images)


def test_an_image_is_the_photograph_and_its_negative_along_the_strokes():
    photograph = np.random.default_rng(0).integers(0, 256, (70, 80, 3)).astype(np.uint8)
    digit = np.zeros((1, 8, 8), np.int64)
    digit[0, :, 4:] = 16
    one = Blends(*(np.array([value]) for value in (0, 0, (5, 7), (2, 3))))
    (image,) = blend(digit, [photograph], one)
    crop = photograph[5:37, 7:39]
    stroke, around = np.zeros((32, 32), bool), np.ones((32, 32), bool)
    stroke[2:30, 3 + 16 : 3 + 28] = True
    around[2:30, 3 + 12 : 3 + 28] = False
    np.testing.assert_array_equal(image[stroke], 255 - crop[stroke])
    np.testing.assert_array_equal(image[around], crop[around])


def test_enlarged_digits_are_those_of_an_exact_bilinear_interpolation_with_more_contrast():
    digits = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    for side in (24, 28, 32):
        centres = np.clip((np.arange(side) + 0.5) * 8 / side - 0.5, 0, 7)
        at = np.array([[np.interp(centre, np.arange(8), unit) for unit in np.eye(8)] for centre in centres])
        levels = np.einsum("ia,nab,jb->nij", at, digits, at)
        expected = 255 * np.clip((levels - 4) / 8, 0, 1)
        enlarged = enlarge(digits, side)
        assert enlarged.dtype == np.int64
        assert abs(enlarged - expected).max() <= 0.5 + 1e-9
        assert enlarged.min() == 0 and enlarged.max() == 255


def test_a_folder_of_that_name_is_not_meant(tmp_path: Path, monkeypatch):
    (tmp_path / "digits-photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Source("digits-photos").absolute().name == "digits-photos"


def test_a_missing_photograph_is_named(monkeypatch):
    monkeypatch.setattr(digits_photos, "PHOTOGRAPHS", ("no-such.png",))
    with pytest.raises(UserError, match=r"cannot read .*no-such\.png of scikit-image"):
        load(Source("digits-photos"))
