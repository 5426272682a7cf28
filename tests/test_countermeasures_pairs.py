"""Hackers who hold originals beside what was released for them."""

import dataclasses

import numpy as np
import pytest
from evaluation_examples import make_evaluation
from hacker_examples import CLASSES, data_of, labels_of, natural

from ugejax.app.cache import FolderCache
from ugejax.countermeasures import COUNTERMEASURES, HackerData, countermeasure_of, parse_countermeasures
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.leaked_pairs import SIDE, restoring_filter
from ugejax.errors import UserError
from ugejax.evaluation import evaluate
from ugejax.training import decode


def leaked(originals: np.ndarray, released: np.ndarray, pairs: int) -> HackerData:
    """A hacker who has the last originals, as many of each class."""
    n = len(originals)
    return data_of(released, clean_images=originals[n - pairs :], clean_indices=np.arange(n - pairs, n))


def rms(images: np.ndarray, originals: np.ndarray) -> float:
    """Of the difference, in grey levels."""
    return 255 * float(np.sqrt(np.square(decode(images) - decode(originals)).mean()))


def class_wise(originals: np.ndarray, seed: int = 1) -> np.ndarray:
    signs = np.random.default_rng(seed).choice([-8, 8], (CLASSES, *originals.shape[1:]))
    return to_uint8(decode(originals) + signs[labels_of(len(originals))] / 255)


def test_the_texture_of_a_class_is_undone_by_pairs_of_it():
    originals = natural(300)
    released = class_wise(originals)
    data = leaked(originals, released, 48)
    prepared = COUNTERMEASURES["leaked-pairs-50"].prepared(data)
    assert rms(released, originals) > 7 and rms(prepared.images, originals) < 1
    np.testing.assert_allclose(prepared.images[-48:], decode(originals[-48:]), atol=1e-6)
    assert prepared.images.min() >= 0 and prepared.images.max() <= 1
    assert prepared.test_images is data.test_images


def test_what_has_no_class_mean_is_filtered_and_more_pairs_undo_more():
    originals, rng = natural(600), np.random.default_rng(0)
    noise = 8 * rng.choice([-1, 1], (600, 16, 16, 1)) * np.array([1, -1, 1])  # another one in each image
    released = to_uint8(decode(originals) + noise / 255)
    few, many = (
        COUNTERMEASURES["leaked-pairs-500"].prepared(leaked(originals, released, pairs)).images[:100]
        for pairs in (6, 450)
    )
    before, after = rms(released[:100], originals[:100]), [rms(some, originals[:100]) for some in (few, many)]
    assert after[1] < after[0] < before and after[1] < 0.6 * before


def test_the_control_gets_its_originals_back():
    originals = natural(120)
    prepared = COUNTERMEASURES["leaked-pairs-50"].prepared(leaked(originals, originals, 48))
    np.testing.assert_allclose(prepared.images, decode(originals), atol=1e-5)


def test_a_class_without_pairs_is_restored_by_those_of_all():
    originals = natural(120)
    released = to_uint8(decode(originals) + 8 / 255)  # the same shift in every class
    data = leaked(originals, released, 48)
    few = data.clean_labels != 1
    data = dataclasses.replace(data, clean_images=data.clean_images[few], clean_indices=data.clean_indices[few])
    prepared = COUNTERMEASURES["leaked-pairs-50"].prepared(data)
    assert rms(prepared.images, originals) < 1 < 7 < rms(released, originals)


def test_the_filter_finds_a_blur_that_is_to_be_done():
    # The original is the mean of a degraded pixel's row neighbours: the filter's answer is that mean less the pixel.
    rng = np.random.default_rng(0)
    degraded = rng.uniform(size=(40, 8, 12, 1)).astype(np.float32)
    padded = np.pad(degraded, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
    kernel, offset = restoring_filter(degraded, (padded[:, :, :-2] + padded[:, :, 2:]) / 2)
    expected = np.zeros((SIDE, SIDE))
    expected[SIDE // 2, SIDE // 2 - 1 : SIDE // 2 + 2] = 0.5, -1, 0.5
    np.testing.assert_allclose(kernel.reshape(SIDE, SIDE), expected, atol=0.01)
    assert abs(offset[0]) < 0.01


def test_originals_are_counted_in_shares_or_in_numbers():
    assert COUNTERMEASURES["leaked-pairs-50"].originals_of(5000, 10) == 50
    assert COUNTERMEASURES["leaked-pairs-500"].originals_of(60, 3) == 60
    assert COUNTERMEASURES["leaked-pairs-50"].originals_of(5000, 100) == 100  # one of each class
    assert COUNTERMEASURES["clean-5"].originals_of(5000, 10) == 250
    assert COUNTERMEASURES["grey"].originals_of(5000, 10) == 0
    assert countermeasure_of("grey+leaked-pairs-50").clean_count == 50
    with pytest.raises(UserError, match="a share of the originals or a number"):
        parse_countermeasures("leaked-pairs-50+clean-5")


def test_an_evaluation_gives_him_pairs_and_his_control_too(tmp_path):
    evaluation = make_evaluation(countermeasures=("none", "leaked-pairs-50"), key=None, network=None, epochs=6)
    (plain, with_pairs), _ = evaluate(evaluation, FolderCache(tmp_path))
    assert with_pairs["clean_accuracy"] == plain["clean_accuracy"] > 0.9
    assert plain["protected_accuracy"] < 0.1 < 0.9 < with_pairs["protected_accuracy"]
