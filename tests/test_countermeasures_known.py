"""Who knows the stripes takes them away exactly; who knows nothing, and trains no network, learns past them."""

import numpy as np
import pytest
from evaluation_examples import make_evaluation
from hacker_examples import CLASSES, data_of, in_cells, labels_of, natural, wanted_by
from sklearn.linear_model import Ridge

from ugejax import Method, parametrise
from ugejax.app.cache import FolderCache
from ugejax.countermeasures import COUNTERMEASURES, parse_countermeasures
from ugejax.countermeasures import ridge as ridge_module
from ugejax.countermeasures.exact_word import stripes_of
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.natural import natural_statistics
from ugejax.countermeasures.ridge import random_filters, ridge
from ugejax.errors import UserError
from ugejax.evaluation import evaluate
from ugejax.evaluation.trial import Trial
from ugejax.perturbations.start import class_stripes
from ugejax.training import decode

SHAPE = (16, 16, 3)


def dealt(secret: bytes, classes: int = CLASSES, *, period: int = 14, shape=SHAPE) -> np.ndarray:
    return np.asarray(class_stripes(secret, classes, shape, amplitude=8 / 255, period=period))


def check_taken_away(originals: np.ndarray, released: np.ndarray, texture: np.ndarray) -> None:
    """Exactly the signs of a texture [K, H, W, C] are subtracted, with what its cells left of it."""
    data, labels, seen = data_of(released), labels_of(len(originals)), texture[0] != 0
    prepared = COUNTERMEASURES["exact-word"].prepared(data)
    for k in range(CLASSES):
        own = labels == k
        change = decode(released)[own] - prepared.images[own]
        np.testing.assert_allclose(change - change[0], 0, atol=1e-6)  # one texture for the class
        np.testing.assert_array_equal(np.sign(change[0]), np.sign(texture[k]))  # with all of its signs
        planted = (decode(released) - decode(originals))[own].mean(axis=0)
        assert np.abs(change[0])[seen].mean() == pytest.approx(np.abs(planted)[seen].mean(), rel=0.15)
    assert prepared.test_images is data.test_images


@pytest.mark.parametrize(("period", "channels"), [(14, 3), (4, 3), (14, 1)])
def test_the_stripes_of_a_class_are_found_and_taken_away(period, channels):
    originals = natural(900, channels)
    texture = dealt(b"a key", period=period, shape=(16, 16, channels))
    check_taken_away(originals, in_cells(originals, texture[labels_of(900)]), texture)


def test_stripes_under_a_code_are_found_and_taken_away():
    originals = natural(900)
    codes = parametrise(Method(parametrisation="codes"), SHAPE)
    texture = dealt(b"a key")
    check_taken_away(originals, in_cells(originals, wanted_by(codes, originals, labels_of(900), texture)), texture)


def test_words_of_several_bands_are_found_in_single_images():
    rng, originals = np.random.default_rng(0), natural(240)
    texture, labels = dealt(b"a key", 60), rng.integers(0, 60, 240)
    stripes = stripes_of(60, SHAPE, period=14)
    assert len(stripes.signs) == 2
    statistics = natural_statistics(decode(natural(600, seed=8)))
    spectra = statistics.spectrum(decode(in_cells(originals, texture[labels])))
    words, _ = stripes.named(spectra, statistics.variance, statistics)
    right = (stripes.of(words) == np.sign(texture)[labels]).all(axis=(1, 2, 3))
    assert right.mean() > 0.9


def test_a_class_without_stripes_is_left_alone_though_others_have_some():
    originals, labels = natural(900), labels_of(900)
    texture = dealt(b"a key").copy()
    texture[1] = 0
    prepared = COUNTERMEASURES["exact-word"].prepared(data_of(in_cells(originals, texture[labels])))
    np.testing.assert_array_equal(prepared.images[labels == 1], decode(originals)[labels == 1])
    assert (prepared.images[labels == 0] != decode(originals)[labels == 0]).any()


@pytest.fixture
def smaller(monkeypatch):
    monkeypatch.setattr(ridge_module, "FILTERS", 64)
    monkeypatch.setattr(ridge_module, "SAMPLES", 4000)


@pytest.mark.parametrize("n", [30, 90])
def test_the_weights_are_those_of_ridge_regression(n):
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(n, 60)), rng.normal(size=(n, 3))
    reference = Ridge(alpha=ridge_module.PENALTY * n, fit_intercept=False).fit(features, targets)
    np.testing.assert_allclose(ridge_module._weights(features, targets), reference.coef_.T, atol=1e-5)


def test_filters_whiten(smaller, monkeypatch):
    monkeypatch.setattr(ridge_module, "FLOOR", 1e-3)
    images = natural(200)
    kernel, bias = random_filters(images, 0)
    assert kernel.shape == (6, 6, 3, 64) and bias.shape == (64,)
    patches = np.lib.stride_tricks.sliding_window_view(decode(images), (6, 6), axis=(1, 2))[:, ::3, ::3]
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 108)
    answers = patches @ kernel.reshape(108, -1) + bias
    # Whitened patches have variance 1 in every direction, but for those that hardly occur.
    assert np.median(answers.var(axis=0)) == pytest.approx(1, rel=0.3) and np.abs(answers.mean(axis=0)).max() < 0.2
    again, _ = random_filters(images, 0)
    other, _ = random_filters(images, 1)
    np.testing.assert_array_equal(kernel, again)
    assert (kernel != other).any()


def drawn(n: int, seed: int) -> np.ndarray:
    """Natural images in which a class has its sign, a cross, a ring or a bar of 5x5 pixels, in six places."""
    ring = np.pad(np.zeros((3, 3)), 1, constant_values=1)
    signs = [np.eye(5) + np.eye(5)[::-1], ring, np.outer(np.ones(5), [0, 1, 1, 0, 0])]
    rng, images = np.random.default_rng(seed), natural(n, seed=seed).astype(int)
    for image, label in zip(images, labels_of(n), strict=True):
        for row, column in rng.integers(0, 12, (6, 2)):
            image[row : row + 5, column : column + 5] += (60 * np.clip(signs[label], 0, 1)).astype(int)[..., None]
    return np.clip(images, 0, 255).astype(np.uint8)


def accuracy(images: np.ndarray) -> float:
    logits = ridge(images, labels_of(len(images)), drawn(300, 7), num_classes=CLASSES)
    return float((logits.argmax(axis=1) == labels_of(300)).mean())


def test_ridge_learns_past_stripes(smaller):
    originals = drawn(600, 0)
    released = to_uint8(decode(originals) + dealt(b"a key")[labels_of(600)])
    figures = accuracy(originals), accuracy(released)
    assert figures[0] > 0.9 and figures[1] > 0.7, figures  # chance is 1/3


def test_ridge_has_one_row_trains_no_network_and_is_done_once(smaller, monkeypatch, tmp_path):
    monkeypatch.setattr(Trial, "run", lambda *_: pytest.fail("no network is trained"))
    told = []
    evaluation = make_evaluation(
        countermeasures=("ridge", "grey+ridge"), hackers=("mlp", "cnn"), key=None, network=None
    )
    rows, curves = evaluate(evaluation, FolderCache(tmp_path), lambda *of: told.append(of[2]))
    assert [(row["role"], row["countermeasure"], row["epochs"]) for row in rows] == [
        ("hacker", "ridge", 1), ("hacker", "grey+ridge", 1),
    ]  # fmt: skip
    # Every class of that release looks like the next one, and who believes it is wrong of every clean image.
    assert rows[0]["clean_accuracy"] == 1 and rows[0]["protected_accuracy"] == 0
    assert len(curves[0]["clean"]) == 1 and told
    monkeypatch.setattr("ugejax.evaluation.fitted.keep_score", lambda *_: pytest.fail("is in the cache"))
    assert evaluate(evaluation, FolderCache(tmp_path))[0] == rows


@pytest.mark.parametrize("other", ["crop-flip", "adversarial-training", "dp-sgd", "dfr-5", "random-projections-5"])
def test_what_is_of_a_network_does_not_go_with_ridge(other):
    with pytest.raises(UserError, match="trains no network"):
        parse_countermeasures(f"ridge+{other}")
    assert parse_countermeasures("grey+ridge,clean-5+ridge") == ["grey+ridge", "clean-5+ridge"]
