"""Trainings as rows of a file: what is there is not trained again, and the estimate counts the rest."""

import hashlib
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from cli_examples import write_toy
from hacker_examples import labels_of, natural

from experiments import calibration, detectability, search, trainings
from experiments.columns import EITHER, FIELD, GROUPS, JUDGED, TODAY, judged, parse_columns
from experiments.search import METHODS, PLANS, SCALES, planned
from experiments.trainings import LOCK, RESULTS, Training, hours, hours_of_making, unlocked
from ugejax.countermeasures import COUNTERMEASURES, countermeasure_of, learned_purifier
from ugejax.evaluation.trial import Score, Trial
from ugejax.networks import build

SMALL = Training("mlp", n_train=48, n_test=12, epochs=2)
STUB = Score([0.5], 1.0), None


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
    asked = list(planned(SCALES["search"], ((("codes", "stripes"), columns),), seeds=1))
    hackers = [one for one in asked if one.role == "hacker"]
    assert [one.countermeasure for one in hackers] == 3 * ["none"] + 3 * ["grey"] + 4 * ["learned-purifier"]
    assert [one.method for one in hackers][:6] == 2 * ["uge", "uge", "originals"]
    # Who makes pairs of his own knows a method, in his control as well.
    known = [one.knows for one in hackers if one.method == "originals"]
    assert known == [None, None, *({"method": "uge", "settings": METHODS[name][1]} for name in ("codes", "stripes"))]
    assert [one.settings for one in asked if one.role == "authorized"] == [
        METHODS[name][1] for name in ("codes", "stripes")
    ]


def test_every_scale_has_its_plan_and_begins_with_what_is_worth_most():
    assert set(PLANS) == set(SCALES)
    for scale, blocks in PLANS.items():
        for methods, countermeasures in blocks:
            assert set(methods) <= set(METHODS) and parse_columns(",".join(countermeasures)) == tuple(countermeasures)
        asked = list(planned(SCALES[scale], blocks, seeds=2))
        assert len({json.dumps(one.described, sort_keys=True) for one in asked}) == len(asked)
        assert (asked[0].method, asked[0].countermeasure, asked[0].seed) == ("uge", "none", 0)
    field = list(planned(SCALES["field"], PLANS["field"], seeds=1))
    assert {(one.network, one.n_train, one.n_test, one.epochs) for one in field} == {("speedrun", 50000, 10000, 11)}
    assert len(field) == 4 * (5 + 1) + 2  # columns of methods and their control, and two partners


def test_groups_of_columns_have_names():
    assert parse_columns("coin,field,jpeg-10") == ("coin", *FIELD)
    assert not set(FIELD) & set(TODAY)


def test_the_worse_of_two_counts_as_one_column():
    every = {name: 0.1 for name in FIELD} | {"class-means": 0.3, "orthogonal-projection": 0.2, "coin": 0.9}
    assert judged(every) == {name: 0.1 for name in FIELD if name not in EITHER} | {"class-means": 0.3}
    assert len(judged(every)) == JUDGED == 7
    assert judged({"orthogonal-projection": 0.2}) == {"orthogonal-projection": 0.2}


@pytest.fixture
def pictures(tmp_path) -> str:
    """60 images of 16x16 pixels in colour."""
    np.savez(tmp_path / "pictures.npz", data=natural(60), targets=labels_of(60))
    return str(tmp_path / "pictures.npz")


def test_every_column_can_be_trained(pictures, tmp_path, monkeypatch):
    pairs = []
    monkeypatch.setattr(learned_purifier, "_purified", lambda data, own: pairs.append(own) or data)
    every = trainings.Trainings(tmp_path / "results.json", tmp_path / "runs", pictures, None)
    begun, train = [], Trial.run

    def run(trial, *arguments, **named):
        begun.append(trial)
        # Those are trained that need more of it than images do, and the one whose weights the pretrained begins with.
        if named or trial.then or trial.adversary or trial.variables is not None:
            return train(trial, *arguments, **named)
        return STUB

    monkeypatch.setattr(Trial, "run", run)
    for column in dict.fromkeys(name for group in GROUPS.values() for name in group):
        training = replace(SMALL, method="uge", countermeasure=column, epochs=1)
        assert every.done(training)["countermeasure"] == column
        fitted = begun[-1]
        assert np.isfinite(fitted.images).all() and len(fitted.images) == 48, column
        assert (fitted.adversary is not None) == (countermeasure_of(column).adversary is not None)
    assert (pairs[0].originals != pairs[0].released).any()
    # The pretrained one begins with what was learned of his own images, which stand for the test images here.
    (weights,) = (tmp_path / "runs" / "trainings").glob("*.safetensors")
    assert weights.stat().st_size > 0


def test_a_lock_is_undone_by_its_key_and_both_sides_are_rows(run, monkeypatch, tmp_path):
    monkeypatch.setitem(
        METHODS, "lock", (LOCK, {"surrogate": "mlp", "rounds": 1, "train_steps": 1, "learning_rate": 0.5})
    )
    run("--methods", "lock", "--countermeasures", "none")
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(row["method"], row["role"]) for row in found["rows"]] == [
        (LOCK, "hacker"), ("originals", "hacker"), (LOCK, "authorized"),
    ]  # fmt: skip
    (release,) = found["releases"]
    assert release["method"] == LOCK and release["linf"] <= 8 and release["psnr"] > 30 and release["seconds"] > 0
    every = trainings.Trainings(tmp_path / "none.json", tmp_path / "runs", str(tmp_path / "toy.npz"), None)
    method, settings = METHODS["lock"]
    protected = every.release(replace(SMALL, method=method, settings=settings))
    originals = protected.train.images.astype(int)
    inside = (originals > 8) & (originals < 247)  # what the lock clips is lost
    undone, locked = (np.abs(images - originals)[inside].max() for images in (unlocked(protected), protected.released))
    assert undone <= 1 < 4 <= locked
    # Who finds a release that is there knows what was measured of it, and not how long it took.
    assert every.releases == [release | {"seconds": None}]


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


def test_what_is_fitted_in_place_of_a_network_is_a_row(run, tmp_path):
    run("--methods", "stripes", "--countermeasures", "ridge")
    hacker, control = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert (hacker["method"], hacker["countermeasure"], control["method"]) == ("uge", "ridge", "originals")
    assert len(hacker["by_epoch"]) == 1 and hacker["last"] == hacker["peak"]


def test_wrong_names_are_told(run, capsys):
    with pytest.raises(SystemExit):
        run("--methods", "codes,strips")
    assert "strips: choose from codes, stripes" in capsys.readouterr().err
    (several, *_) = [name for name, one in COUNTERMEASURES.items() if one.members > 1]
    with pytest.raises(SystemExit):
        run("--countermeasures", f"none,{several}")
    assert f"{several}: trains several networks" in capsys.readouterr().err


def test_committed_rows_are_of_planned_trainings():
    rows = json.loads(RESULTS.read_text())["rows"]
    methods = [(row["method"], row["settings"]) for row in rows]
    assert all(method in [("originals", {}), *METHODS.values()] for method in methods)
    keys = [json.dumps({name: row[name] for name in SMALL.described}, sort_keys=True) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        fitted = countermeasure_of(row["countermeasure"]).classifier is not None
        assert len(row["by_epoch"]) == (1 if fitted else row["recipe"]["epochs"])
        assert row["peak"] == max(row["by_epoch"])


def test_a_release_and_a_training_are_estimated_by_their_arithmetic(monkeypatch):
    monkeypatch.setitem(trainings.GFLOP, "r20", 0.02)
    monkeypatch.setitem(trainings.SHARE, "r20", 0.5)
    tap = Training("mlp", 60, 30, epochs=1, method="tap", settings={"surrogate": "r20", "epochs": 1, "pgd_steps": 1})
    # 4 s an image at 0.01 GFLOP/s, and 60 * (1 + 2 / 3) passes.
    np.testing.assert_allclose(hours_of_making(tap, 0.01), 4 * 100 / 3600)
    assert hours_of_making(replace(tap, method="lsp", settings={}), 0.01) == 0
    # One step of an adversary is a second derivative.
    plain = hours(replace(tap, network="r20"), [], 0.01)
    assert hours(replace(tap, network="r20", countermeasure="fgsm-rs"), [], 0.01) == 2 * plain


# What rows of a version say, at a scale at which it takes seconds: the releases' bytes and the curves of a training.
RECORDED = {
    "stripes": (1, "420d3b3d037f75c4", [5 / 12, 1, 1]),
    "codes": (4, "bc29e0a9cfd46e83", [5 / 12, 1, 1]),
    "strong": (1, "8dde8f0e6ea58815", [5 / 12, 1, 1]),
}


@pytest.mark.parametrize("name", list(RECORDED))
def test_a_change_of_what_rows_say_raises_their_version(name, tmp_path):
    """Where this fails, what rows say has changed: raise `VERSION` and record here what the test found."""
    write_toy(tmp_path / "toy.npz")
    method, settings = METHODS[name]
    training = replace(SMALL, epochs=3, method=method, settings=settings)
    every = trainings.Trainings(tmp_path / "results.json", tmp_path / "runs", str(tmp_path / "toy.npz"), None)
    released = hashlib.sha256(every.release(training).released.tobytes()).hexdigest()[:16]
    assert (training.version, released, every.done(training)["by_epoch"]) == RECORDED[name]


@pytest.fixture
def design_tool(tmp_path, monkeypatch, capsys):
    """Runs the design tool on a toy, with further arguments, and returns what it prints."""
    write_toy(tmp_path / "toy.npz")
    toy = ["--source", str(tmp_path / "toy.npz"), "--own", str(tmp_path / "toy.npz"), "--scale", "smoke"]
    scale = detectability.Scale(n_train=36, n_held=12, n_test=12, epochs=2, widths=(4, 4, 4))
    monkeypatch.setitem(detectability.SCALES, "smoke", scale)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["detectability", *toy, *arguments])
        assert detectability.main() == 0
        return capsys.readouterr().out

    return run


def test_the_design_tool_tells_of_each_cell_what_is_read_and_what_is_seen(design_tool):
    head, _, *rows = design_tool("--countermeasures", "none,class-means-oracle").splitlines()
    assert head == "| candidate | none | class-means-oracle |"
    assert [row.split(" | ")[0] for row in rows] == ["| stripes", "| codes", "| strong"]
    cells = re.findall(r"(\d\.\d\d) / (\d\.\d\d)", "".join(rows))
    assert len(cells) == 6 and all(0 <= float(figure) <= 1 for cell in cells for figure in cell)


def test_the_design_tool_reads_by_another_network_with_crops_and_flips(design_tool, monkeypatch):
    train, begun = Trial.run, []

    def run(trial, *arguments, **named):
        begun.append(trial)
        return train(trial, *arguments, **named)

    monkeypatch.setattr(Trial, "run", run)
    shown = design_tool("--countermeasures", "none", "--network", "mlp")
    assert re.findall(r"^\| (\w+) \| \d\.\d\d / \d\.\d\d \|$", shown, re.MULTILINE) == ["stripes", "codes", "strong"]
    assert len(begun) == 3
    for trial in begun:
        assert trial.module == build("mlp", len(np.unique(trial.labels)))
        assert trial.recipe.augment == ("crop-flip",) and trial.recipe.epochs == 2
