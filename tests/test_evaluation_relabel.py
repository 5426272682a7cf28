"""Accuracy under other names for a network's answers."""

import numpy as np
import pytest
from evaluation_examples import make_evaluation, make_trial

from ugejax.app.cache import FolderCache
from ugejax.evaluation import evaluate
from ugejax.evaluation.relabel import relabelled_accuracy
from ugejax.evaluation.together import run_together


def test_the_best_map_is_one_to_one():
    # Answers 0, 0, 1, 2 for class 0, and so on: 0 -> 0 (2), 1 -> 2 (2), 2 -> 1 (1) get 5 of 9.
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    answers = np.array([0, 0, 1, 2, 0, 2, 1, 1, 0])
    assert relabelled_accuracy(answers, labels, 3) == pytest.approx(5 / 9)
    assert relabelled_accuracy((labels + 1) % 3, labels, 3) == 1
    # All answers 0: no map makes them more than one class.
    assert relabelled_accuracy(np.zeros(9, int), labels, 3) == pytest.approx(4 / 9)


def test_it_is_never_less_than_without_a_map():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, answers = rng.integers(0, 5, (2, 40))
        assert relabelled_accuracy(answers, labels, 5) >= (answers == labels).mean()


def test_networks_that_take_each_class_for_the_next_are_right_under_other_names(tmp_path):
    evaluation = make_evaluation(
        countermeasures=("none", "ridge", "random-projections-5"), key=None, network=None, epochs=6
    )
    rows, _ = evaluate(evaluation, FolderCache(tmp_path))
    assert [row["countermeasure"] for row in rows] == ["none", "ridge", "random-projections-5"]
    for row in rows:
        assert row["protected_accuracy"] < 0.1 < 0.9 < row["protected_relabelled_accuracy"], row["countermeasure"]
        assert row["clean_relabelled_accuracy"] >= row["clean_accuracy"]
    assert evaluate(evaluation, FolderCache(tmp_path))[0][:2] == rows[:2]  # the cache has it


def test_networks_that_train_together_have_it_too():
    trials = [make_trial(), make_trial(labels=(np.arange(12) + 1) % 3)]
    together, alone = run_together(trials), [trial.run()[0] for trial in trials]
    assert [score.relabelled for score in together] == pytest.approx([score.relabelled for score in alone], abs=0.2)
    assert None not in [score.relabelled for score in together]
