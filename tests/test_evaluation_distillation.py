"""Distillation: what the teacher is asked, what the student learns from and what he is scored on."""

import dataclasses

import numpy as np
import pytest
from evaluation_examples import make_evaluation, make_trial, toy

from ugejax.app.cache import FolderCache
from ugejax.errors import UserError
from ugejax.evaluation import evaluate, parse_distillations
from ugejax.evaluation.answers import answers_of
from ugejax.evaluation.distillation import student_labels
from ugejax.evaluation.trial import Score, Trial
from ugejax.training import Recipe


def test_students_learn_from_the_teacher_of_their_own_image_set(tmp_path, monkeypatch):
    evaluation = make_evaluation(
        hackers=("cnn-nonorm", "mlp", "wrong-key"), distillations=("released-hard", "own-soft"), countermeasures=()
    )
    students = []
    run = Trial.run

    def run_teacher(trial, report, snapshots):
        if trial.test_images is evaluation.test.images and trial.labels is evaluation.originals.labels:
            return run(dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, epochs=20)), report)
        students.append(trial)
        return Score([0.5] * trial.epochs, 1.0), trial.variables

    monkeypatch.setattr(Trial, "run", run_teacher)
    rows, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [(r["role"], r["network"], r["countermeasure"]) for r in rows] == [
        ("distilled", "cnn-nonorm", "released-hard"),
        ("distilled", "cnn-nonorm", "own-soft"),
    ]
    clean_hard, released_hard, clean_soft, released_soft = students
    # On training images a teacher repeats its labels, which the release has wrong for what its images show.
    np.testing.assert_array_equal(clean_hard.labels, evaluation.originals.labels)
    np.testing.assert_array_equal(released_hard.labels, evaluation.originals.labels)
    np.testing.assert_array_equal(released_hard.images, evaluation.released)
    np.testing.assert_array_equal(clean_hard.images, evaluation.originals.images)
    # Own images: half of the test images, the other half scored.
    own, unseen = evaluation.test.labels[::2], evaluation.test.labels[1::2]
    for student in (clean_soft, released_soft):
        np.testing.assert_array_equal(student.images, evaluation.test.images[::2])
        np.testing.assert_array_equal(student.test_labels, unseen)
        np.testing.assert_allclose(student.labels.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(clean_soft.labels.argmax(axis=1), own)
    np.testing.assert_array_equal(released_soft.labels.argmax(axis=1), (own - 1) % 3)


def test_distillation_needs_a_teacher_and_a_student_of_another_architecture(tmp_path):
    with pytest.raises(UserError, match="`distillations`: the authorized network is the teacher"):
        evaluate(make_evaluation(key=None, network=None, distillations=("own-soft",)), FolderCache(tmp_path))
    with pytest.raises(UserError, match="`distillations`: name a student of another architecture than mlp"):
        evaluate(make_evaluation(hackers=("mlp", "mlp-other-init"), distillations=("own-soft",)), FolderCache(tmp_path))


def test_student_labels_are_hard_or_softened():
    logits = np.array([[0.0, 4.0, 0.0], [8.0, 0.0, 0.0]], np.float32)
    hard = student_labels(logits, None)
    assert hard.dtype == np.int32
    assert hard.tolist() == [1, 0]
    e, e2 = np.exp(1), np.exp(2)
    expected = [[1 / (2 + e), e / (2 + e), 1 / (2 + e)], [e2 / (2 + e2), 1 / (2 + e2), 1 / (2 + e2)]]
    soft = student_labels(logits, 4.0)
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft, expected, atol=1e-6)


def test_a_teacher_is_trained_once_and_its_score_kept(tmp_path, monkeypatch):
    data = toy(7, 3)
    trial = make_trial(recipe=Recipe(epochs=1, batch_size=6))
    first = answers_of(trial, (data.images, data.images[:2]), FolderCache(tmp_path), lambda *_: None)
    assert [answer.shape for answer in first] == [(7, 3), (2, 3)]
    np.testing.assert_allclose(first[0][:2], first[1], atol=1e-5)
    _, variables = trial.run()
    expected = trial.module.apply(variables, data.images / np.float32(255), train=False)
    np.testing.assert_allclose(first[0], expected, atol=1e-4)

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trial, "run", fail)
    again = answers_of(trial, (data.images, data.images[:2]), FolderCache(tmp_path), fail)
    np.testing.assert_array_equal(first[0], again[0])
    assert len(trial.run_cached(FolderCache(tmp_path), fail).by_epoch) == 1
    with pytest.raises(AssertionError, match="trained again"):
        answers_of(trial, (data.images, data.images[:3]), FolderCache(tmp_path), fail)
    with pytest.raises(AssertionError, match="trained again"):
        answers_of(trial, (data.images, data.images[:2]), FolderCache(tmp_path), fail, method="features")


def test_distillations_are_checked():
    assert parse_distillations("own-soft, released-hard,own-soft") == ("own-soft", "released-hard")
    with pytest.raises(UserError, match="`distillations`: unknown 'soft'"):
        parse_distillations("soft")
    with pytest.raises(UserError, match="`distillations`: names none"):
        parse_distillations(",")
