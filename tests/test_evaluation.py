"""Evaluation: rows and their summary, the lists on the command line, and what each hacker trains on."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from evaluation_examples import make_evaluation

from ugejax.app.cache import FolderCache
from ugejax.app.keys import build_authorized
from ugejax.app.results import write_results
from ugejax.authorized import new_key, seen
from ugejax.countermeasures import COUNTERMEASURES, Countermeasure, HackerData
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.countermeasures.preprocessing import filtered
from ugejax.errors import UserError
from ugejax.evaluation import Evaluation, ensemble, evaluate, parse_hackers, summarise
from ugejax.evaluation.candidates import OTHER_INIT, hacker
from ugejax.evaluation.trial import Score, Trial
from ugejax.networks import NETWORKS
from ugejax.transforms.filters import grey


def row(
    role: str, network: str, countermeasure: str, protected: float, retention: float | None = 0.5, seed: int = 0
) -> dict:
    return {
        "role": role, "network": network, "countermeasure": countermeasure, "protected_accuracy": protected,
        "retention": retention, "seed": seed,
    }  # fmt: skip


def test_summary_of_a_worked_example():
    rows = [
        row("authorized", "cnn", "none", 0.8, 1.0),
        row("authorized", "cnn", "none", 0.6, 0.9, seed=1),
        row("authorized", "cnn", "crop-flip", 0.1, 0.1),
        row("hacker", "mlp", "none", 0.2),
        row("hacker", "mlp", "none", 0.4, seed=1),
        row("wrong_key", "cnn", "none", 0.5),
        row("wrong_key", "cnn", "none", 0.1, seed=1),
        row("hacker", "mlp", "jpeg-10", 0.4, 0.9),
        row("hacker", "mlp", "jpeg-10", 0.3, 0.7, seed=1),
        row("wrong_key", "cnn", "jpeg-10", 0.1, None),
        row("hacker", "mlp", "grey", 0.1, 0.2),
        row("wrong_key", "cnn", "grey", 0.1, 0.4),
        row("hacker", "mlp", "only-clean-20", 0.7, 1.0),
        row("hacker", "mlp", "clean-20", 0.3, 0.95),
        row("distilled", "cnn", "own-soft", 0.9, 1.0),
        row("distilled", "cnn", "own-soft", 0.7, 1.0, seed=1),
        row("distilled", "mlp", "own-soft", 0.85, 1.0),
    ]
    summary = summarise(rows)
    assert summary.pop("authorized_retention") == pytest.approx(0.95)
    # The best mean over seeds, not the luckiest seed (0.5); originals alone are no attack on the release.
    assert summary.pop("worst_hacker") == pytest.approx(0.35)
    assert summary.pop("mean_hacker") == pytest.approx((0.2 + 0.4 + 0.5 + 0.1) / 4)
    assert summary["worst_hacker_role"] == "hacker"
    assert summary["worst_hacker_network"] == "mlp"
    assert summary["worst_hacker_countermeasure"] == "jpeg-10"
    # 0.8 with jpeg-10, 0.3 with grey: each countermeasure counts once, and clean-20 takes originals.
    assert summary.pop("mean_countermeasure_share") == pytest.approx(0.55)
    assert summary["worst_countermeasure"] == "jpeg-10"
    assert summary.pop("worst_countermeasure_share") == pytest.approx(0.8)
    assert summary.pop("worst_distilled") == pytest.approx(0.85)
    clean = [*rows, row("hacker", "mlp", "clean-20", 0.6, 0.95, seed=1)]
    assert summarise(clean)["worst_hacker_countermeasure"] == "clean-20"  # it trains on the release as well


def test_summary_has_none_where_no_row_supports_a_figure():
    attack = summarise([row("hacker", "mlp", "jpeg-10", 0.4)])
    assert attack["authorized_retention"] is None
    assert attack["mean_hacker"] is None
    assert attack["worst_hacker"] == pytest.approx(0.4)
    assert set(summarise([]).values()) == {None}


def test_a_network_that_learned_nothing_of_the_originals_has_no_retention():
    rows = [row("authorized", "cnn", "none", 0.0, None), row("authorized", "cnn", "none", 0.6, 0.9, seed=1)]
    assert summarise(rows[:1])["authorized_retention"] is None
    assert summarise(rows)["authorized_retention"] == pytest.approx(0.9)


def test_results_replace_what_was_there_whole(tmp_path):
    file = tmp_path / "results.json"
    file.write_text("old")
    write_results(file, {"schema": 1})
    assert json.loads(file.read_text()) == {"schema": 1}
    with pytest.raises(TypeError):
        write_results(file, {"schema": object()})
    assert json.loads(file.read_text()) == {"schema": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_hackers_are_checked():
    assert parse_hackers("mlp, cnn-other-init,wrong-key,mlp") == ("mlp", "cnn-other-init", "wrong-key")
    with pytest.raises(UserError, match="`hackers`: unknown 'res-tny': did you mean 'res-tiny'"):
        parse_hackers("mlp,res-tny")
    with pytest.raises(UserError, match="`hackers`: unknown 'wrong-key-other-init'"):
        parse_hackers("wrong-key-other-init")
    with pytest.raises(UserError, match="`hackers`: names none"):
        parse_hackers(" , ")


def test_every_hacker_has_a_key_of_its_own_whatever_else_is_registered():
    """Figures were measured with the numbers below; what is registered besides must not change them."""
    first = ["cnn", "cnn-nonorm", "mlp", "res-tiny", "r18", "r20", "r56"]
    numbers = dict(zip([*first, *(name + OTHER_INIT for name in first)], range(14), strict=True))

    def words(key):
        return tuple(jax.random.key_data(key).tolist())

    keys = {
        name: words(hacker(name, 10, seed=3, epochs=None, augment=()).key)
        for name in (*NETWORKS, *(name + OTHER_INIT for name in NETWORKS))
    }
    assert len(set(keys.values())) == len(keys)
    for name, number in numbers.items():
        assert keys[name] == words(jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 3), number))


@pytest.fixture
def untrained(monkeypatch) -> list[str]:
    """Digests of the trials that would have been trained."""
    digests = []

    def run(trial, report, snapshots):
        digests.append(trial.digest)
        return Score([0.25] * (trial.epochs - 1) + [0.125], 1.0), trial.variables

    monkeypatch.setattr(Trial, "run", run)
    return digests


def test_every_candidate_and_seed_is_a_trial_of_its_own_on_both_image_sets(untrained, tmp_path):
    evaluation = make_evaluation(
        hackers=("mlp", "mlp-other-init", "wrong-key"), countermeasures=("none", "blur"), seeds=(0, 1)
    )
    rows, curves = evaluate(evaluation, FolderCache(tmp_path))
    expected = [
        ("authorized", "mlp", "none"), ("hacker", "mlp", "none"), ("hacker", "mlp-other-init", "none"),
        ("wrong_key", "mlp", "none"), ("hacker", "mlp", "blur"), ("hacker", "mlp-other-init", "blur"),
        ("wrong_key", "mlp", "blur"),
    ]  # fmt: skip
    assert [(r["seed"], r["role"], r["network"], r["countermeasure"]) for r in rows] == [
        (seed, *row) for seed in (0, 1) for row in expected
    ]
    assert len(set(untrained)) == len(untrained) == 2 * len(rows) == 2 * len(curves)


@pytest.fixture
def trials(monkeypatch) -> list[Trial]:
    """The trials that would have been asked for, in their order."""
    kept = []

    def run_cached(trial, folder, report):
        kept.append(trial)
        return Score([0.5] * trial.epochs, 1.0)

    monkeypatch.setattr(Trial, "run_cached", run_cached)
    return kept


def only(*names: str, **changes) -> Evaluation:
    return make_evaluation(key=None, network=None, countermeasures=names, **changes)


def test_a_counter_measure_prepares_training_and_test_images_of_both_sides(trials, tmp_path, monkeypatch):
    calls = []

    def darken(data):
        calls.append(data)
        return data.with_all_images(lambda images: images // 2)

    monkeypatch.setitem(COUNTERMEASURES, "darken", Countermeasure("half as bright", darken, augment=("cutout",)))
    evaluation = only("darken", hackers=("mlp", "mlp-other-init"))
    evaluate(evaluation, FolderCache(tmp_path))
    assert len(trials) == 4
    for trial, images in zip(trials, 2 * (evaluation.originals.images, evaluation.released), strict=True):
        np.testing.assert_array_equal(trial.images, images // 2)
        np.testing.assert_array_equal(trial.test_images, evaluation.test.images // 2)
        assert trial.recipe.augment == ("cutout",)
    assert len(calls) == 2  # once for both hackers
    np.testing.assert_array_equal(calls[0].reference, evaluation.test.images)


def test_a_wrong_key_sees_what_was_prepared_through_its_own_view(trials, tmp_path):
    evaluation = make_evaluation(hackers=("wrong-key",), countermeasures=("spectrum-notch",))
    architecture = {
        name: value for name, value in evaluation.key.__dict__.items() if name not in ("secret", "form", "step")
    } | {"form": "keyed-dither", "step": 16}
    key = new_key(b"seed 0", **architecture)
    network = build_authorized(key).of_release(bytes(range(16)))
    evaluation = dataclasses.replace(evaluation, key=key, network=network)
    evaluate(evaluation, FolderCache(tmp_path))
    test = evaluation.test.images
    data = HackerData(evaluation.released, evaluation.originals.labels, test, test, test[:0], np.zeros(0, int))
    prepared = COUNTERMEASURES["spectrum-notch"].prepared(data)
    *_, protected = trials
    wrong, right = (
        build_authorized(new_key(seed, **architecture)).of_release(bytes(range(16))).view
        for seed in (b"hacker 0", b"seed 0")
    )
    np.testing.assert_array_equal(protected.images, seen(wrong, to_uint8(prepared.images)))
    np.testing.assert_array_equal(protected.test_images, seen(wrong, to_uint8(prepared.test_images)))
    assert (protected.images != seen(right, to_uint8(prepared.images))).any()


def test_the_share_of_originals_is_that_of_the_release_and_drawn_anew_for_every_seed(trials, tmp_path):
    names = ("clean-20", "only-clean-20", "fine-tune-20", "dfr-20")
    evaluation = only(*names, seeds=(0, 1))
    evaluate(evaluation, FolderCache(tmp_path))
    originals, released = evaluation.originals.images, evaluation.released
    by_name = dict(zip(names, zip(trials[0:8:2], trials[1:8:2], strict=True), strict=False))
    np.testing.assert_array_equal(by_name["clean-20"][0].images, originals)
    clean = (by_name["clean-20"][1].images == originals).all(axis=(1, 2, 3))
    assert clean.sum() == 12
    assert np.bincount(evaluation.originals.labels[clean]).tolist() == [4, 4, 4]
    np.testing.assert_array_equal(by_name["clean-20"][1].images[~clean], released[~clean])
    for trial in by_name["only-clean-20"]:
        np.testing.assert_array_equal(trial.images, originals[clean])
        np.testing.assert_array_equal(trial.labels, evaluation.originals.labels[clean])
    for name, trains in (("fine-tune-20", "all"), ("dfr-20", "head")):
        np.testing.assert_array_equal(by_name[name][1].images, released)
        (phase,) = by_name[name][1].then
        np.testing.assert_array_equal(phase.images, originals[clean])
        np.testing.assert_array_equal(phase.labels, evaluation.originals.labels[clean])
        assert phase.trains == trains
    other = (trials[9].images == originals).all(axis=(1, 2, 3))
    assert other.sum() == 12
    assert (other != clean).any()


def test_what_changes_the_training_step_goes_to_the_hackers_alone(trials, tmp_path):
    names = ("none", "adversarial-training", "ueraser-max", "dp-sgd")
    rows, _ = evaluate(make_evaluation(countermeasures=names), FolderCache(tmp_path))
    assert [r["role"] for r in rows] == ["authorized"] + 4 * ["hacker"]
    assert [trial.adversary is not None for trial in trials] == [False] * 5 + [True] * 4 + [False] * 2
    assert [trial.aggregate is not None for trial in trials] == [False] * 9 + [True] * 2


def test_a_purifier_makes_the_images_and_has_to_be_there(trials, tmp_path):
    evaluation = only("purifier", purifier=lambda images: 255 - images)
    evaluate(evaluation, FolderCache(tmp_path))
    for trial, images in zip(trials, (evaluation.originals.images, evaluation.released), strict=True):
        np.testing.assert_array_equal(trial.images, 255 - images)
        np.testing.assert_array_equal(trial.test_images, 255 - evaluation.test.images)
    with pytest.raises(UserError, match="purifier needs `purifier`"):
        only("purifier")


def test_a_hacker_with_several_counter_measures_is_one_row(trials, tmp_path):
    evaluation = only("purifier+grey+crop-flip", hackers=("mlp",), purifier=lambda images: 255 - images)
    rows, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [row["countermeasure"] for row in rows] == ["purifier+grey+crop-flip"]
    for trial, images in zip(trials, (evaluation.originals.images, evaluation.released), strict=True):
        np.testing.assert_array_equal(trial.images, filtered(255 - images, transform=grey))
        assert trial.recipe.augment == ("crop-flip",)
    assert summarise(rows)["worst_hacker_countermeasure"] == "purifier+grey+crop-flip"
    with pytest.raises(UserError, match="purifier needs `purifier`"):
        only("grey+purifier")


def test_dp_sgd_is_refused_to_networks_with_batch_norm_before_anything_is_trained():
    names = ("mlp", "r20-other-init", "wrong-key", "res-tiny")
    with pytest.raises(UserError, match="dp-sgd takes .* leaves r20-other-init none"):
        make_evaluation(countermeasures=("none", "dp-sgd"), hackers=names)
    key = dataclasses.replace(make_evaluation().key, network="r20")
    with pytest.raises(UserError, match="leaves wrong-key none"):
        make_evaluation(countermeasures=("dp-sgd",), hackers=("wrong-key",), key=key)
    make_evaluation(countermeasures=("dp-sgd",), hackers=("wrong-key",), key=None)  # nobody has a wrong key
    make_evaluation(countermeasures=("none",), hackers=names)


def test_all_members_of_an_ensemble_hold_the_same_originals(tmp_path, monkeypatch):
    asked: list[Trial] = []

    def answers_of(trial, queries, folder, report):
        asked.append(trial)
        return [np.zeros((len(queries[0]), 3))]

    monkeypatch.setattr(ensemble, "answers_of", answers_of)
    evaluation = only("random-projections-5+fine-tune-20", hackers=("mlp",), seeds=(0, 1))
    rows, _ = evaluate(evaluation, FolderCache(tmp_path))
    held = [trial.then[0].labels.tobytes() for trial in asked]
    assert len(asked) == 20
    assert all(len(set(held[first : first + 5])) == 1 for first in range(0, 20, 5))
    assert [row["epochs"] for row in rows] == [asked[0].epochs] * 2


def test_an_ensemble_answers_by_the_mean_of_its_members_probabilities(tmp_path, monkeypatch):
    asked: list[Trial] = []
    # On average 0.476 and 0.480; the means of their logarithms say the first class by far.
    probabilities = [[0.98, 1e-6, 0.02]] + [[0.35, 0.6, 0.05]] * 4

    def answers_of(trial, queries, folder, report):
        assert queries[0] is trial.test_images
        asked.append(trial)
        for epoch in (1, 2):
            report(epoch, 2, 0.1)
        return [np.tile(7 + np.log(probabilities[(len(asked) - 1) % 5]), (12, 1))]

    monkeypatch.setattr(ensemble, "answers_of", answers_of)
    evaluation = only("random-projections-5", seeds=(0, 1))
    test = dataclasses.replace(evaluation.test, labels=np.array([1] * 9 + [0] * 3, np.int32))
    told = []
    rows, curves = evaluate(
        dataclasses.replace(evaluation, test=test), FolderCache(tmp_path), lambda *what: told.append(what)
    )
    assert [(row["protected_accuracy"], row["epochs"], row["seed"]) for row in rows] == [(0.75, 2, 0), (0.75, 2, 1)]
    assert curves == [{"clean": [0.75], "protected": [0.75]}] * 2
    assert [(epoch, epochs) for *_, epoch, epochs, _ in told[:10]] == [(epoch, 10) for epoch in range(1, 11)]
    assert len({trial.digest for trial in asked}) == len(asked) == 20  # members, image sets and seeds all differ


def test_a_trained_ensemble_is_not_trained_again(tmp_path, monkeypatch):
    evaluation = only("random-projections-5", epochs=1)
    first, _ = evaluate(evaluation, FolderCache(tmp_path))
    monkeypatch.setattr(Trial, "run", None)
    again, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [row["protected_accuracy"] for row in again] == [row["protected_accuracy"] for row in first]


def test_rows_tell_who_learned_from_what(tmp_path):
    evaluation = make_evaluation(hackers=(), epochs=4)
    (r,), (curve,) = evaluate(evaluation, FolderCache(tmp_path / "a"))
    assert len(curve["clean"]) == len(curve["protected"]) == r["epochs"] == 4
    assert (r["clean_accuracy"], r["protected_accuracy"]) == (curve["clean"][-1], curve["protected"][-1])
    assert r["clean_peak_accuracy"] == max(curve["clean"])
    assert r["protected_peak_accuracy"] == max(curve["protected"])
    assert r["retention"] == pytest.approx(r["protected_accuracy"] / r["clean_accuracy"])
    assert r["clean_accuracy"] == 1.0
    assert r["protected_accuracy"] == 0.0  # the release's labels are all wrong
    assert evaluate(evaluation, FolderCache(tmp_path / "b"))[1] == [curve]  # trained anew, to the same figures


def test_without_the_key_there_are_hackers_only(untrained, tmp_path):
    rows, _ = evaluate(
        make_evaluation(key=None, network=None, hackers=("mlp", "wrong-key"), epochs=1), FolderCache(tmp_path)
    )
    assert [r["role"] for r in rows] == ["hacker"]


def test_what_was_scored_is_not_trained_again(tmp_path, monkeypatch):
    evaluation = make_evaluation(epochs=1)
    first = evaluate(evaluation, FolderCache(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4  # two image sets, the authorized network and one hacker

    def fail(*_):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "run", fail)
        assert evaluate(evaluation, FolderCache(tmp_path)) == first
        with pytest.raises(AssertionError, match="trained again"):
            evaluate(dataclasses.replace(evaluation, epochs=2), FolderCache(tmp_path))
    files[0].write_text('{"by_epoch": [0.')  # cut off
    again, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [r["protected_accuracy"] for r in again] == [r["protected_accuracy"] for r in first[0]]
    assert sorted(tmp_path.iterdir()) == files
