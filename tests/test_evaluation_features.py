"""Whose features are shown, and that nobody is trained twice for it."""

import numpy as np
import pytest
from evaluation_examples import make_evaluation

from ugejax.app.cache import FolderCache
from ugejax.errors import UserError
from ugejax.evaluation import evaluate
from ugejax.evaluation import features as module
from ugejax.evaluation.features import learned_features
from ugejax.evaluation.plan import plain_trials
from ugejax.evaluation.trial import Score, Trial


def test_who_is_asked_is_trained_by_the_evaluation_as_well(tmp_path, monkeypatch):
    trained = []

    def run(trial, report, snapshots):
        trained.append(trial.digest)
        return Score([0.5], 1.0), None

    monkeypatch.setattr(Trial, "run", run)
    evaluation = make_evaluation(hackers=("wrong-key", "mlp", "cnn"), countermeasures=("grey", "none"), seeds=(3, 4))
    evaluate(evaluation, FolderCache(tmp_path))
    asked = {title: trial.digest for title, _, trial in plain_trials(evaluation)}
    assert list(asked) == [
        "authorized mlp, trained on the release", "hacker mlp, trained on the release",
        "hacker mlp, trained on the originals",
    ]  # fmt: skip
    assert len(set(asked.values())) == 3
    assert set(asked.values()) <= set(trained)
    assert list(plain_trials(make_evaluation(countermeasures=("grey",)))) == []
    attack = make_evaluation(key=None, network=None, hackers=("mlp",))
    assert [title.split(",")[0] for title, *_ in plain_trials(attack)] == ["hacker mlp"] * 2


def test_features_are_the_principal_components_of_the_test_images(tmp_path, monkeypatch):
    evaluation = make_evaluation(key=None, network=None)
    raw = np.random.default_rng(0).normal(size=(12, 80)).astype(np.float32)
    monkeypatch.setattr(module, "answers_of", lambda trial, queries, *_, method: [raw[: len(queries[0])]])
    labels, learned = learned_features(evaluation, FolderCache(tmp_path), lambda *_: None)
    np.testing.assert_array_equal(labels, evaluation.test.labels)
    for features in learned.values():
        assert features.shape == (12, 12)
        # A rotation about the mean: distances stay what they were.
        np.testing.assert_allclose(np.ptp(features.mean(axis=0)), 0, atol=1e-5)
        expected = np.linalg.norm(raw[:, None] - raw, axis=-1)
        np.testing.assert_allclose(np.linalg.norm(features[:, None] - features, axis=-1), expected, atol=1e-4)


def test_who_could_not_be_trained_is_named(tmp_path, monkeypatch):
    def run(trial, report, snapshots):
        raise UserError("the training loss was nan in step 1 of epoch 1")

    monkeypatch.setattr(Trial, "run", run)
    with pytest.raises(UserError, match="^authorized mlp, trained on the release: the training loss was nan"):
        learned_features(make_evaluation(), FolderCache(tmp_path), lambda *_: None)
