"""The network that a hacker trains to undo a perturbation, and the releases of his own that he trains it on."""

import dataclasses
import json

import numpy as np
import pytest
from evaluation_examples import make_evaluation, toy
from hacker_examples import CLASSES, data_of, labels_of, natural

from ugejax import Protector
from ugejax.app.arena.plan import Job
from ugejax.app.cache import FolderCache
from ugejax.app.imitation import imitation_of
from ugejax.baselines import BASELINES
from ugejax.countermeasures import COUNTERMEASURES, countermeasure_of, learned_purifier
from ugejax.countermeasures.hacker_data import Pairs, to_uint8
from ugejax.countermeasures.learned_purifier import restored, train_restorer
from ugejax.data import Dataset
from ugejax.errors import UserError
from ugejax.evaluation import evaluate, summarise
from ugejax.evaluation.own_release import KEYS, STRANGER, own_pairs
from ugejax.perturbations.method import Method
from ugejax.training import decode


@pytest.fixture
def short(monkeypatch):
    for name, value in {"WIDTH": 8, "STEPS": 150, "BATCH": 16, "LEARNING_RATE": 0.01}.items():
        monkeypatch.setattr(learned_purifier, name, value)


def chequered(originals: np.ndarray, seed: int) -> np.ndarray:
    """A family without class mean: a chequered board of pixels, with a sign of each image."""
    signs = np.random.default_rng(seed).choice([-8, 8], (len(originals), 1, 1, 1))
    board = np.where(np.indices(originals.shape[1:3]).sum(axis=0) % 2, 1, -1)[..., None]
    return to_uint8(decode(originals) + signs * board / 255)


def rms(images: np.ndarray, originals: np.ndarray) -> float:
    return 255 * float(np.sqrt(np.square(decode(images) - decode(originals)).mean()))


def test_a_family_of_perturbations_is_undone_and_what_has_none_stays(short):
    own, originals = natural(400, seed=3), natural(90)
    released = chequered(originals, 1)
    pairs = Pairs(own, chequered(own, 2))
    data = data_of(released, own_pairs=lambda: pairs)
    prepared = COUNTERMEASURES["learned-purifier"].prepared(data)
    before, after = rms(released, originals), rms(prepared.images, originals)
    assert before > 7 and after < 0.5 * before
    # Test images go the same way.
    np.testing.assert_array_equal(prepared.test_images, restored(train_restorer(pairs, 0), data.test_images))
    for images in (prepared.images, prepared.test_images):
        assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    # Once trained, the control has the same network, and the same again from the seed.
    trainings = train_restorer.cache_info().misses
    control = COUNTERMEASURES["learned-purifier"].prepared(dataclasses.replace(data, images=originals))
    assert train_restorer.cache_info().misses == trainings
    assert rms(control.images, originals) < before / 2
    again = restored(train_restorer(Pairs(own, pairs.released), 0), released)
    np.testing.assert_array_equal(again, prepared.images)


def test_leaked_pairs_train_it_too_and_equal_ones_leave_every_image_alone(short):
    originals = natural(240, size=8)
    released = chequered(originals, 1)
    leaked = {"clean_images": originals[90:], "clean_indices": np.arange(90, 240)}
    prepared = COUNTERMEASURES["leaked-purifier-500"].prepared(data_of(released, **leaked))
    assert rms(prepared.images[:90], originals[:90]) < 0.6 * rms(released[:90], originals[:90])
    control = COUNTERMEASURES["leaked-purifier-500"].prepared(data_of(originals, **leaked))
    np.testing.assert_allclose(control.images, decode(originals), atol=1e-4)  # to roundings


def test_pairs_are_changed_as_images_are_by_who_comes_before():
    originals = natural(12)
    data = data_of(originals, own_pairs=lambda: Pairs(originals, 255 - originals))
    darker = data.with_all_images(lambda images: images // 2)
    assert darker.own_pairs is not None
    np.testing.assert_array_equal(darker.own_pairs().originals, originals // 2)
    np.testing.assert_array_equal(darker.own_pairs().released, (255 - originals) // 2)
    assert countermeasure_of("grey+learned-purifier").knows_method


def card_of(**changes) -> dict:
    """What a release's card says, through JSON."""
    settings = Method(period=4).described
    form = {"form": "keyed-dither", "network": "mlp", "step": 24}
    return json.loads(json.dumps({"method": "uge", "eps": 8 / 255, "settings": settings, "authorized": form} | changes))


def test_an_imitation_is_the_release_but_for_the_key():
    images, labels = natural(60), labels_of(60)
    imitation = imitation_of(card_of(), CLASSES)
    first, again, other = (imitation(images, labels, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    owners = Protector(network="mlp", settings={"period": 4}, seed=0).fit(images, labels).released_
    change, owners = (some.astype(int) - images for some in (first, owners))
    assert np.abs(change).max() == np.abs(owners).max() == 8
    assert np.abs(change).mean() == pytest.approx(np.abs(owners).mean(), rel=0.05)


def test_baselines_are_imitated_with_their_settings_and_strangers_not():
    images, labels = natural(60), labels_of(60)
    lsp = BASELINES["lsp"]
    card = card_of(method="lsp", eps=lsp.default_eps((16, 16, 3)), settings=dataclasses.asdict(lsp.settings))
    released = imitation_of(card, CLASSES)(images, labels, 0)
    assert released.shape == images.shape and (released != images).any()
    assert imitation_of({"method": "imported", "settings": {}}, CLASSES) is None
    assert imitation_of({}, CLASSES) is None


def test_own_pairs_are_all_natural_images_in_equal_parts_under_several_keys():
    natural_images = Dataset(natural(33), labels_of(33), ("0", "1", "2"))
    asked = []

    def imitation(images, labels, number):
        asked.append((len(images), number))
        assert len(labels) == len(images)
        return 255 - images

    pairs = own_pairs(imitation, natural_images, 2)
    np.testing.assert_array_equal(pairs.released, 255 - pairs.originals)
    assert sorted(image.tobytes() for image in pairs.originals) == sorted(i.tobytes() for i in natural_images.images)
    assert {size for size, _ in asked} == {4, 5} and [number for _, number in asked] == [*range(2 * KEYS, 3 * KEYS)]


def test_an_evaluation_makes_the_pairs_once_for_release_and_control(tmp_path, monkeypatch):
    monkeypatch.setattr(learned_purifier, "STEPS", 2)
    asked = []

    def imitation(images, labels, number):
        asked.append(number)
        return images

    evaluation = make_evaluation(
        countermeasures=("none", "learned-purifier"), key=None, network=None, imitation=imitation,
        hackers=("mlp", "mlp-other-init"), test=toy(24, 1),
    )  # fmt: skip
    rows, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [row["countermeasure"] for row in rows] == ["none", "none", "learned-purifier", "learned-purifier"]
    assert asked == list(range(KEYS))
    # Of images that he collected he protects those, whatever their classes.
    seen, own = [], Dataset(toy(16, 2).images, np.arange(16, dtype=np.int32), tuple("abcdefghijklmnop"))
    collected = dataclasses.replace(
        evaluation, countermeasures=("learned-purifier",), own=own,
        imitation=lambda images, labels, number: (seen.append((images, labels)), images)[1],
    )  # fmt: skip
    evaluate(collected, FolderCache(tmp_path))
    images, labels = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    np.testing.assert_array_equal(images, own.images[labels])
    with pytest.raises(UserError, match="`countermeasures`: .*learned-purifier: the release's card tells of no method"):
        make_evaluation(countermeasures=("grey+learned-purifier",))


def test_an_arena_shares_no_control_of_who_knows_the_method():
    hacker = Job("hacker", 0, "em", "cnn", "learned-purifier")
    assert hacker.needs == (Job("protect", 0, "em"),) and hacker.trainings == 2
    plain = Job("hacker", 0, "em", "cnn", "grey")
    assert [need.kind for need in plain.needs] == ["protect", "control"] and plain.trainings == 1


def test_a_strangers_network_is_trained_on_originals_and_asked_of_released_test_images(tmp_path):
    asked = []

    def imitation(images, labels, number):
        asked.append(number)
        return images[(np.arange(len(images)) + 1) % len(images)]  # each looks like one of the next class

    evaluation = make_evaluation(
        countermeasures=("none", "stranger-inference"), key=None, network=None, imitation=imitation, epochs=6
    )
    (plain, stranger), _ = evaluate(evaluation, FolderCache(tmp_path))
    assert asked == [STRANGER]
    assert stranger["clean_accuracy"] == plain["clean_accuracy"] > 0.9
    assert stranger["protected_accuracy"] < 0.1
    summary = summarise([plain, stranger | {"protected_accuracy": 1.0, "retention": 1.0}])
    assert summary["worst_hacker_countermeasure"] == "none"  # he has not trained on the release
    assert summary["mean_countermeasure_share"] is None
