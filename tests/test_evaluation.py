"""Evaluation: rows and their summary, the lists on the command line, and scores that are kept."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from ugejax.authorized import build_authorized, new_key
from ugejax.data import Dataset
from ugejax.errors import UserError
from ugejax.evaluation import Evaluation, evaluate, parse_hackers, summarise, write_results
from ugejax.evaluation.trial import Score, Trial, default_cache
from ugejax.networks import build
from ugejax.training import Recipe, default_recipe


def toy(n: int, seed: int) -> Dataset:
    """8x8 images of three classes that differ in which third of the rows is bright."""
    labels = np.arange(n, dtype=np.int32) % 3
    images = np.random.default_rng(seed).integers(60, 120, (n, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 100
    return Dataset(images.astype(np.uint8), labels, ("0", "1", "2"))


def make_evaluation(**changes) -> Evaluation:
    originals = toy(60, 0)
    key = new_key(
        b"seed 0", form="plain", network="mlp", image_shape=(8, 8, 1), num_classes=3, step=None,
        recipe=default_recipe("mlp"), from_seed=True,
    )  # fmt: skip
    # Every class looks like the next one: who learns from the release is wrong on clean images.
    released = originals.images[(np.arange(60) + 1) % 60]
    evaluation = Evaluation(originals, released, toy(12, 1), key, build_authorized(key), ("mlp",), ("none",), 2)
    return dataclasses.replace(evaluation, **changes)


def row(role: str, network: str, countermeasure: str, protected: float, retention: float = 0.5, seed: int = 0) -> dict:
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
        row("hacker", "mlp", "jpeg-10", 0.4),
        row("hacker", "mlp", "jpeg-10", 0.3, seed=1),
        row("distilled", "cnn", "none", 0.9),
    ]
    summary = summarise(rows)
    assert summary.pop("authorized_retention") == pytest.approx(0.95)
    # The best mean over seeds, not the luckiest seed (0.5).
    assert summary.pop("worst_hacker") == pytest.approx(0.35)
    assert summary.pop("mean_hacker") == pytest.approx((0.2 + 0.4 + 0.5 + 0.1) / 4)
    assert summary["worst_hacker_network"] == "mlp"
    assert summary["worst_hacker_countermeasure"] == "jpeg-10"


def test_summary_has_none_where_no_row_supports_a_figure():
    attack = summarise([row("hacker", "mlp", "jpeg-10", 0.4)])
    assert attack["authorized_retention"] is None
    assert attack["mean_hacker"] is None
    assert attack["worst_hacker"] == pytest.approx(0.4)
    assert set(summarise([]).values()) == {None}


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
    with pytest.raises(UserError, match="--hackers: unknown 'res-tny': did you mean 'res-tiny'"):
        parse_hackers("mlp,res-tny")
    with pytest.raises(UserError, match="--hackers: unknown 'wrong-key-other-init'"):
        parse_hackers("wrong-key-other-init")
    with pytest.raises(UserError, match="--hackers: names none"):
        parse_hackers(" , ")


@pytest.fixture
def untrained(monkeypatch) -> list[str]:
    """Digests of the trials that would have been trained."""
    digests = []

    def run(trial, report):
        digests.append(trial.digest)
        return Score([0.25] * (trial.recipe.epochs - 1) + [0.125], 1.0)

    monkeypatch.setattr(Trial, "run", run)
    return digests


def test_every_candidate_and_seed_is_a_trial_of_its_own_on_both_image_sets(untrained, tmp_path):
    evaluation = make_evaluation(
        hackers=("mlp", "mlp-other-init", "wrong-key"), countermeasures=("none", "blur"), seeds=2
    )
    rows, curves = evaluate(evaluation, tmp_path)
    expected = [
        ("authorized", "mlp", "none"), ("hacker", "mlp", "none"), ("hacker", "mlp-other-init", "none"),
        ("wrong_key", "mlp", "none"), ("hacker", "mlp", "blur"), ("hacker", "mlp-other-init", "blur"),
        ("wrong_key", "mlp", "blur"),
    ]  # fmt: skip
    assert [(r["seed"], r["role"], r["network"], r["countermeasure"]) for r in rows] == [
        (seed, *row) for seed in (0, 1) for row in expected
    ]
    assert len(set(untrained)) == len(untrained) == 2 * len(rows) == 2 * len(curves)


def test_rows_tell_who_learned_from_what(tmp_path):
    evaluation = make_evaluation(hackers=(), epochs=4)
    (r,), (curve,) = evaluate(evaluation, tmp_path / "a")
    assert len(curve["clean"]) == len(curve["protected"]) == r["epochs"] == 4
    assert (r["clean_accuracy"], r["protected_accuracy"]) == (curve["clean"][-1], curve["protected"][-1])
    assert r["clean_peak_accuracy"] == max(curve["clean"])
    assert r["protected_peak_accuracy"] == max(curve["protected"])
    assert r["retention"] == pytest.approx(r["protected_accuracy"] / r["clean_accuracy"])
    assert r["clean_accuracy"] == 1.0
    assert r["protected_accuracy"] == 0.0  # the release's labels are all wrong
    assert evaluate(evaluation, tmp_path / "b")[1] == [curve]  # trained anew, to the same figures


def test_without_the_key_there_are_hackers_only(untrained, tmp_path):
    rows, _ = evaluate(make_evaluation(key=None, network=None, hackers=("mlp", "wrong-key"), epochs=1), tmp_path)
    assert [r["role"] for r in rows] == ["hacker"]


def test_what_was_scored_is_not_trained_again(tmp_path, monkeypatch):
    evaluation = make_evaluation(epochs=1)
    first = evaluate(evaluation, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4  # two image sets, the authorized network and one hacker

    def fail(*_):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "run", fail)
        assert evaluate(evaluation, tmp_path) == first
        with pytest.raises(AssertionError, match="trained again"):
            evaluate(dataclasses.replace(evaluation, epochs=2), tmp_path)
    files[0].write_text('{"by_epoch": [0.')  # cut off
    again, _ = evaluate(evaluation, tmp_path)
    assert [r["protected_accuracy"] for r in again] == [r["protected_accuracy"] for r in first[0]]
    assert sorted(tmp_path.iterdir()) == files


def make_trial(**changes) -> Trial:
    data, test = toy(12, 0), toy(6, 1)
    module = build("mlp", 3)
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    trial = Trial(
        module, variables, "all", Recipe(), data.images, data.labels, test.images, test.labels, jax.random.key(0)
    )
    return dataclasses.replace(trial, **changes)


def changed(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] += 1
    return array


def test_the_digest_is_that_of_every_input():
    trial = make_trial()
    assert make_trial().digest == trial.digest
    others = [
        make_trial(module=build("cnn", 3)),
        make_trial(module=build("mlp", 4)),
        make_trial(variables=None),
        make_trial(variables=jax.tree.map(lambda leaf: changed(np.asarray(leaf)), trial.variables)),
        make_trial(trains="head"),
        *(
            make_trial(recipe=dataclasses.replace(Recipe(), **change))
            for change in (
                {"optimizer": "sgd"},
                {"learning_rate": 1e-3},
                {"weight_decay": 0.0},
                {"epochs": 16},
                {"batch_size": 16},
                {"augment": True},
            )  # fmt: skip
        ),
        *(
            make_trial(**{name: changed(getattr(trial, name))})
            for name in ("images", "labels", "test_images", "test_labels")
        ),
        make_trial(images=trial.images.view(np.int8)),
        make_trial(images=trial.images.reshape(12, 4, 16, 1)),
        make_trial(key=jax.random.key(1)),
    ]
    digests = [trial.digest, *(other.digest for other in others)]
    assert len(set(digests)) == len(digests)


def test_a_score_is_its_last_and_its_best_epoch():
    score = Score([0.2, 0.9, 0.5], 1.0)
    assert (score.last, score.peak) == (0.5, 0.9)


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("UGEJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "ugejax" / "trials"
