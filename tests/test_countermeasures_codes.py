"""Hackers of placed codes, whose signs and places are random: planted codes of known patterns, in natural images."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hacker_examples import CLASSES, SECRET, data_of, in_cells, labels_of, natural, wanted_by

from ugejax.countermeasures import COUNTERMEASURES, class_dictionary, gradient_projection, matched_patterns
from ugejax.countermeasures.class_spectra import transport
from ugejax.countermeasures.hacker_data import HackerData, to_uint8
from ugejax.countermeasures.matched_patterns import commonest_square, placed_code
from ugejax.countermeasures.tiles import lay
from ugejax.perturbations.codes import Placed
from ugejax.training import accuracy, decode, outputs

N = 450
laid_by = jax.jit(lay)  # one program in place of one for each operation


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    """Searches and a network that are over in a second."""
    settings = {
        matched_patterns: {"STARTS": 4, "SHORT": 4, "FINALISTS": 1, "MANY": 80, "LONG": 5},
        class_dictionary: {"SAMPLES": 6000, "STEPS": 8},
        gradient_projection: {"WIDTHS": (8, 8, 8), "BATCH": 50},
    }
    for module, values in settings.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(matched_patterns, "placed_code", dense)


def dense(shape: tuple[int, ...], share: float = 0.9) -> Placed:
    """The code of the default settings for images [H, W, C], with that share of the tiles laid."""
    code = placed_code(shape)
    assert code is not None
    return dataclasses.replace(code, share=share)


def faint(images: np.ndarray) -> np.ndarray:
    """Images with a quarter of their contrast, whose fine detail is as weak beside codes as that of photographs."""
    return images // 4 + 96


def hacker_of(images: np.ndarray, **changes) -> HackerData:
    """A hacker whose natural images are faint."""
    data = data_of(images, **changes)
    return dataclasses.replace(data, reference=faint(data.reference), test_images=faint(data.test_images))


def with_codes(originals: np.ndarray, labels: np.ndarray, share: float = 0.9) -> np.ndarray:
    """Images with a `dense` code as far as cells leave it; no stripes."""
    no_texture = np.zeros((CLASSES, *originals.shape[1:]), np.float32)
    return in_cells(originals, wanted_by(dense(originals.shape[1:], share), originals, labels, no_texture))


def rms(images: np.ndarray, originals: np.ndarray) -> float:
    return 255 * float(np.sqrt(np.square(decode(images) - decode(originals)).mean()))


def share_left(images: np.ndarray, released: np.ndarray, originals: np.ndarray) -> float:
    """How much of the perturbation is left, 1 where it is untouched."""
    planted, left = (decode(some) - decode(originals) for some in (released, images))
    return float((planted * left).sum() / (planted**2).sum())


# What a hacker leaves of codes, and how many grey levels he costs originals.
@pytest.mark.parametrize(
    ("name", "channels", "most", "cost"),
    [
        ("matched-pattern-oracle", 3, 0.35, 0),
        ("matched-pattern-oracle", 1, 0.5, 0),
        ("matched-pattern", 1, 0.5, 0.5),
        ("class-dictionary", 1, 0.9, 0.5),
    ],
)
def test_codes_are_found_and_taken_away_and_originals_cost_little(name, channels, most, cost):
    originals, labels = faint(natural(N, channels)), labels_of(N)
    released = with_codes(originals, labels)
    data = hacker_of(released, clean_images=originals, clean_indices=np.arange(N))
    prepared = COUNTERMEASURES[name].prepared(data)
    assert rms(released, originals) > 3.9
    assert share_left(prepared.images, released, originals) < most
    assert prepared.test_images is data.test_images
    control = COUNTERMEASURES[name].prepared(dataclasses.replace(data, images=originals))
    assert rms(control.images, originals) <= cost


def test_a_network_no_longer_names_the_class_once_its_gradients_are_projected_out(monkeypatch):
    originals, labels = faint(natural(N)), labels_of(N)
    data = hacker_of(with_codes(originals, labels, share=0.15))  # of the default settings
    networks: list[tuple[Any, Any]] = []
    trained = gradient_projection.trained
    monkeypatch.setattr(gradient_projection, "trained", lambda data: networks.append(trained(data)) or networks[-1])
    prepared = COUNTERMEASURES["gradient-projection"].prepared(data)
    before, after = (accuracy(*networks[0], images, labels) for images in (data.images, prepared.images))
    assert before > 0.7 and after < 0.55 * before
    assert rms(prepared.images, data.images) < 4
    assert prepared.test_images is data.test_images
    # Who is not named is not moved.
    named = outputs(*networks[0], data.images).argmax(axis=1) == labels
    np.testing.assert_array_equal(prepared.images[~named], decode(data.images)[~named])
    assert (prepared.images[named] != decode(data.images)[named]).any(axis=(1, 2, 3)).mean() > 0.5


def test_tiles_are_laid_by_bayes_rule():
    """Against the sum over all ways to lay tiles of a pattern of 2x2 pixels on an image of 2x2, behind white noise."""
    share, amplitude, rng = 0.75, 0.8, np.random.default_rng(0)
    pattern, x = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    tiles = [(0.0, 1 - share)] + [(sign * look, share / 4) for sign in (1, -1) for look in (pattern, pattern[:, ::-1])]
    total, mean, cover = 0.0, np.zeros((2, 2)), np.zeros((2, 2))
    for top in (0, 1):  # rows of the first band above the image
        bands = 1 + top
        for lefts in itertools.product((0, 1), repeat=bands):
            places = [(2 * band - top, 2 * tile - left) for band, left in enumerate(lefts) for tile in range(1 + left)]
            for chosen in itertools.product(tiles, repeat=len(places)):
                code, covered, prior = np.zeros((6, 6)), np.zeros((6, 6)), 1 / 2 / 2**bands
                for (row, column), (tile, chance) in zip(places, chosen, strict=True):
                    at = slice(row + 2, row + 4), slice(column + 2, column + 4)
                    code[at], covered[at], prior = amplitude * tile, np.any(tile), prior * chance
                code, covered = code[2:4, 2:4], covered[2:4, 2:4]
                weight = prior * np.exp((x * code).sum() - (code**2).sum() / 2)
                total, mean, cover = total + weight, mean + weight * code, cover + weight * covered
    laid = laid_by(jnp.asarray(x[None]), jnp.asarray(pattern), amplitude=amplitude, precision=1.0, share=share)
    np.testing.assert_allclose(laid.evidence[0], np.log(total), rtol=1e-5)
    np.testing.assert_allclose(amplitude * laid.code[0], mean / total, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(laid.cover[0], cover / total, rtol=1e-5)


def test_what_the_images_have_lost_of_a_tile_counts_for_it():
    """Tiles of one pixel, each alone at its place: those that are subtracted and those that are not look the same."""
    rng = np.random.default_rng(0)
    pattern, x, signs = np.full((1, 1), 0.7), rng.normal(size=(2, 3, 3)), rng.uniform(-1, 1, (2, 3, 3, 2))
    how: dict[str, Any] = {"amplitude": 0.8, "precision": 1.0, "share": 0.75}
    whole, rest = jnp.asarray(x), jnp.asarray(x - 0.8 * 0.7 * signs.sum(axis=-1))
    pattern = jnp.asarray(pattern)
    expected = laid_by(whole, pattern, **how)
    found = laid_by(rest, pattern, subtracted=jnp.asarray(signs), **how)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert np.abs(laid_by(rest, pattern, **how).code - expected.code).max() > 0.1


def test_the_commonest_square_is_the_pattern_or_its_mirror_image():
    originals, labels = natural(N), np.ones(N, np.int32)
    texture = jnp.zeros((CLASSES, 16, 16, 3))
    differences = decode(with_codes(originals, labels)) - decode(originals)
    code = dense((16, 16, 3))
    pattern = np.asarray(code.start(jax.random.key(0), texture, jnp.zeros(0, jnp.int32), SECRET).patterns)[1, 0]
    found = commonest_square(differences, np.sign(code.colour), code.side)
    assert found is not None
    looks = [sign * look for sign in (1, -1) for look in (pattern, pattern[:, ::-1])]
    assert any(np.array_equal(found, look) for look in looks)
    assert commonest_square(np.zeros((5, 16, 16, 3)), np.ones(3), 4) is None
    assert placed_code((6, 16, 3)) is None  # too small


def waves(n: int, labels: np.ndarray) -> np.ndarray:
    """A wave of the first class alone, at a random phase, red against green, and one of all, [n, 16, 16, 3]."""
    shift = np.random.default_rng(4).integers(0, 16, (2, n, 1))
    own, common = np.cos(2 * np.pi * np.array([5, 3])[:, None, None] * (np.arange(16) + shift) / 16) * 8 / 255
    own = own * (labels == 0)[:, None]
    return own[:, None, :, None] * np.array([1, -1, 0]) + common[:, :, None, None] * np.ones(3)


def moments(images: np.ndarray) -> np.ndarray:
    """Second moments of the channels at each frequency, about the mean of the natural images."""
    spectrum = np.fft.rfft2(decode(images) - decode(natural(600, seed=8)).mean(axis=0), axes=(1, 2), norm="ortho")
    return np.einsum("nhwc,nhwd->hwcd", spectrum, spectrum.conj()) / len(images)


def test_class_spectra_become_natural_ones_with_all_their_colours():
    originals, labels = natural(N), labels_of(N)
    released = to_uint8(decode(originals) + waves(N, labels))
    data = data_of(released)
    prepared = COUNTERMEASURES["class-spectra"].prepared(data)
    expected = moments(data.reference)
    for k in range(CLASSES):
        before, after = moments(released[labels == k]), moments(prepared.images[labels == k])
        assert np.abs(before - expected).max() > 1e-2
        np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-4)
    assert prepared.test_images is data.test_images
    control = COUNTERMEASURES["class-spectra"].prepared(dataclasses.replace(data, images=originals))
    assert rms(control.images, originals) < 3


def test_the_transport_takes_one_covariance_to_another_and_is_the_root_of_their_ratio_where_they_commute():
    rng = np.random.default_rng(0)
    a, b = (m @ m.conj().swapaxes(-1, -2) for m in rng.normal(size=(2, 5, 3, 3)) + 1j * rng.normal(size=(2, 5, 3, 3)))
    matrices = transport(a, b)
    np.testing.assert_allclose(matrices @ a @ matrices, b, atol=1e-8)
    np.testing.assert_allclose(matrices, matrices.conj().swapaxes(-1, -2), atol=1e-8)
    np.testing.assert_allclose(transport(np.diag([4.0, 1.0]), np.diag([1.0, 9.0])), np.diag([0.5, 3.0]), atol=1e-12)


def test_overlaid_codes_show_other_classes_as_much_as_an_images_own():
    originals, labels = faint(natural(N)), labels_of(N)
    rng = np.random.default_rng(1)
    textures = rng.choice([-1.0, 1.0], (CLASSES, 16, 16, 3))
    released = to_uint8(decode(originals) + 8 / 255 * (textures[labels] * rng.choice([-1, 1], (N, 1, 1, 1))))

    def shown(images: np.ndarray) -> np.ndarray:
        """The rms of each texture, or its mirror image, in the images of each class, [CLASSES, CLASSES]."""
        change = decode(images) - decode(originals)
        looks = np.stack([textures, textures[:, :, ::-1]])
        found = np.square(np.einsum("nhwc,lkhwc->nlk", change, looks)).max(axis=1)
        return np.sqrt(np.stack([found[labels == k].mean(axis=0) for k in range(CLASSES)]))

    data = hacker_of(released)
    prepared = COUNTERMEASURES["overlaid-codes"].prepared(data)
    for before, after in zip(shown(released), shown(prepared.images), strict=True):
        own, other = np.sort(before)[-1], np.sort(before)[-2]
        assert other < 0.3 * own
        assert np.sort(after)[-2] > 0.6 * np.sort(after)[-1]
    assert prepared.test_images is data.test_images
    control = COUNTERMEASURES["overlaid-codes"].prepared(dataclasses.replace(data, images=originals))
    assert rms(control.images, originals) < 0.5 * rms(prepared.images, released)
    again = COUNTERMEASURES["overlaid-codes"].prepared(data)
    np.testing.assert_array_equal(again.images, prepared.images)


@pytest.mark.parametrize("name", ["overlaid-codes", "class-dictionary", "matched-pattern"])
def test_images_that_are_all_of_one_class_are_left_alone(name):
    labels = np.zeros(60, np.int32)
    data = hacker_of(with_codes(faint(natural(60, 1)), labels), labels=labels)
    np.testing.assert_array_equal(decode(COUNTERMEASURES[name].prepared(data).images), decode(data.images))


@pytest.mark.parametrize("name", ["class-spectra", "class-dictionary", "matched-pattern"])
def test_a_class_of_few_images_is_left_alone(name):
    originals = faint(natural(N, 1))
    labels = np.where(np.arange(N) < 40, 2, np.arange(N) % 2).astype(np.int32)
    released = with_codes(originals, labels)
    prepared = COUNTERMEASURES[name].prepared(hacker_of(released, labels=labels))
    few = labels == 2
    np.testing.assert_allclose(prepared.images[few], decode(released)[few], atol=1e-6)
    assert np.abs(prepared.images[~few] - decode(released)[~few]).max() > 2 / 255
