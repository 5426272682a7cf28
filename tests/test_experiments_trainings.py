"""Trainings as rows of a file: what is there is not trained again, and the estimate counts the rest."""

import hashlib
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from cli_examples import write_toy

from experiments import calibration, detectability, search, trainings
from experiments.search import COLUMNS, METHODS, SCALES, planned
from experiments.trainings import RESULTS, Training, hours_of_tap
from ugejax.countermeasures import parse_countermeasures
from ugejax.evaluation.trial import Trial

SMALL = Training("mlp", n_train=48, n_test=12, epochs=2)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a table of trainings on toy images with these arguments."""
    write_toy(tmp_path / "toy.npz")
    monkeypatch.setitem(search.SCALES, "smoke", SMALL)
    monkeypatch.setattr(trainings, "rate", lambda: 1.0)
    where = ["--source", str(tmp_path / "toy.npz"), "--out", str(tmp_path / "runs")]

    def run(*more: str) -> None:
        results = ["--results", str(tmp_path / "results.json"), "--scale", "smoke"]
        monkeypatch.setattr(sys, "argv", ["search", *results, *where, *more])
        assert search.main() == 0

    return run


def test_every_question_of_the_calibration_is_asked_with_its_control_first():
    asked = list(calibration.planned("search"))
    named = [(one.network, one.n_train, one.method) for one in asked]
    assert len(set(named)) == len(named) == 24
    assert {cell[:2] for cell in named} == {(name, n) for name in ("cnn", "r20", "speedrun") for n in (5000, 20000)}
    assert [method for *_, method in named] == 6 * ["originals", "ar", "tap", "uge"]
    assert all(one.recipe.augment == ("crop-flip",) or one.recipe.mirror for one in asked)


def test_columns_come_whole_and_shared_controls_once():
    columns = ("none", "grey", "learned-purifier")
    asked = list(planned(SCALES["search"], ("codes", "stripes"), columns, seeds=1))
    hackers = [one for one in asked if one.role == "hacker"]
    assert [one.countermeasure for one in hackers] == 3 * ["none"] + 3 * ["grey"] + 4 * ["learned-purifier"]
    assert [one.method for one in hackers][:6] == 2 * ["uge", "uge", "originals"]
    # Who makes pairs of his own knows a method, in his control as well.
    known = [one.knows for one in hackers if one.method == "originals"]
    assert known == [None, None, *({"method": "uge", "settings": METHODS[name][1]} for name in ("codes", "stripes"))]
    assert [one.settings for one in asked if one.role == "authorized"] == [METHODS["codes"][1], {}]
    assert len(list(planned(SCALES["search"], tuple(METHODS), parse_countermeasures(COLUMNS), seeds=3))) > 90


def test_a_hacker_augments_besides_shifts_and_mirrors():
    assert Training("speedrun", 1, 1, epochs=6, countermeasure="ueraser-lite").recipe.augment == ("ueraser",)
    recipe = Training("r20", 1, 1, epochs=6, countermeasure="ueraser-lite").recipe
    assert recipe.augment == ("crop-flip", "ueraser") and recipe.epochs == 6


def test_what_is_there_is_not_trained_again(run, monkeypatch, tmp_path, capsys):
    train, begun = Trial.run, []

    def cut_off(trial, *arguments):
        begun.append(trial)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(trial, *arguments)

    monkeypatch.setattr(Trial, "run", cut_off)
    columns = ("--methods", "stripes", "--countermeasures", "grey")
    with pytest.raises(KeyboardInterrupt):
        run(*columns)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["uge"]
    assert len(rows[0]["by_epoch"]) == 2 and rows[0]["last"] == rows[0]["by_epoch"][-1]

    capsys.readouterr()
    run(*columns, "--estimate")
    # As long as the row that is there.
    assert f"| mlp | 48 | originals | grey | hacker | {rows[0]['seconds'] / 3600:.2f} |" in capsys.readouterr().out

    run(*columns)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["uge", "originals"] and len(begun) == 3
    run(*columns)
    assert len(begun) == 3
    # Another number of epochs is another training.
    monkeypatch.setitem(search.SCALES, "smoke", Training("mlp", n_train=48, n_test=12, epochs=1))
    run(*columns)
    assert len(begun) == 5


def test_wrong_names_are_told(run, capsys):
    with pytest.raises(SystemExit):
        run("--methods", "codes,strips")
    assert "strips: choose from stripes, codes" in capsys.readouterr().err


def test_committed_rows_are_of_planned_trainings():
    rows = json.loads(RESULTS.read_text())["rows"]
    methods = [(row["method"], row["settings"]) for row in rows]
    assert all(method in [("originals", {}), *METHODS.values()] for method in methods)
    keys = [json.dumps({name: row[name] for name in SMALL.described}, sort_keys=True) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row["peak"] == max(row["by_epoch"]) and len(row["by_epoch"]) == row["recipe"]["epochs"] for row in rows)


def test_tap_is_estimated_by_its_arithmetic(monkeypatch):
    monkeypatch.setitem(trainings.GFLOP, "r20", 0.02)
    monkeypatch.setitem(trainings.SHARE, "r20", 0.5)
    tap = Training("mlp", 60, 30, epochs=1, method="tap", settings={"surrogate": "r20", "epochs": 1, "pgd_steps": 1})
    # 4 s an image at 0.01 GFLOP/s, and 60 * (1 + 2 / 3) passes.
    np.testing.assert_allclose(hours_of_tap(tap, 0.01), 4 * 100 / 3600)


# What rows of a version say, at a scale at which it takes seconds: the releases' bytes and the curves of a training.
RECORDED = {
    1: {
        "stripes": ("420d3b3d037f75c4", [5 / 12, 1, 1]),
        "codes": ("f3e6351dbc3041be", [5 / 12, 11 / 12, 1]),
    }
}


@pytest.mark.parametrize("name", ["stripes", "codes"])
def test_a_change_of_what_rows_say_raises_their_version(name, tmp_path):
    """Where this fails, what rows say has changed: raise `VERSION` and record here what the test found."""
    write_toy(tmp_path / "toy.npz")
    method, settings = METHODS[name]
    training = replace(SMALL, epochs=3, method=method, settings=settings)
    every = trainings.Trainings(tmp_path / "results.json", tmp_path / "runs", str(tmp_path / "toy.npz"), None)
    released = hashlib.sha256(every.release(training).released.tobytes()).hexdigest()[:16]
    assert (released, every.done(training)["by_epoch"]) == RECORDED[trainings.VERSION][name]


def test_the_design_tool_tells_of_each_cell_what_is_read_and_what_is_seen(tmp_path, monkeypatch, capsys):
    write_toy(tmp_path / "toy.npz")
    toy = ["--source", str(tmp_path / "toy.npz"), "--own", str(tmp_path / "toy.npz"), "--scale", "smoke"]
    scale = detectability.Scale(n_train=36, n_held=12, n_test=12, epochs=2, widths=(4, 4, 4))
    monkeypatch.setitem(detectability.SCALES, "smoke", scale)
    monkeypatch.setattr(sys, "argv", ["detectability", *toy, "--countermeasures", "none,class-means-oracle"])
    assert detectability.main() == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| candidate | none | class-means-oracle |"
    assert [row.split(" | ")[0] for row in rows] == ["| stripes", "| codes"]
    cells = re.findall(r"(\d\.\d\d) / (\d\.\d\d)", "".join(rows))
    assert len(cells) == 4 and all(0 <= float(figure) <= 1 for cell in cells for figure in cell)
