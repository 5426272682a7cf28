"""The calibration of the scales: rows that are there are not trained again, and the estimate counts the others."""

import json
import sys

import numpy as np
import pytest
from cli_examples import write_toy

from experiments import calibration
from experiments.calibration import METHODS, SCALES, is_row_of, planned


def run(monkeypatch, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", ["calibration", "--scale", "smoke", *more])
    assert calibration.main() == 0


def test_every_question_is_asked_with_its_control_first():
    asked = [(row["network"], row["n_train"], row["method"]) for row in planned(SCALES["field"])]
    assert len(set(asked)) == len(asked) == 24
    assert {cell[:2] for cell in asked} == {(name, n) for name in ("cnn", "r20", "speedrun") for n in (5000, 20000)}
    assert [method for *_, method in asked] == 6 * list(METHODS) and METHODS[0] == "originals"
    augmented = [row["recipe"] for row in planned(SCALES["field"])]
    assert all(recipe["augment"] == ["crop-flip"] or recipe["mirror"] for recipe in augmented)


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch, capsys):
    write_toy(tmp_path / "toy.npz")
    results = tmp_path / "results.json"
    where = ["--source", str(tmp_path / "toy.npz"), "--out", str(tmp_path / "runs"), "--results", str(results)]
    monkeypatch.setattr(calibration, "METHODS", ("originals", "uge"))
    monkeypatch.setattr(calibration, "SCALES", {"smoke": calibration.Scale((("mlp", 48, 1),), 12, {})})
    monkeypatch.setattr(calibration, "rate", lambda: 1.0)
    train = calibration.trained

    def cut_off(settings, *arguments):
        if settings["method"] == "uge":
            raise KeyboardInterrupt
        return train(settings, *arguments)

    monkeypatch.setattr(calibration, "trained", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, *where)
    rows = json.loads(results.read_text())["rows"]
    assert [row["method"] for row in rows] == ["originals"]
    assert all(len(row["by_epoch"]) == 1 and 0 <= row["last"] == row["peak"] <= 1 for row in rows)
    (released,) = [np.load(file) for file in (tmp_path / "runs").glob("*.npy")]
    assert released.shape == (48, 8, 8, 1) and released.dtype == np.uint8

    capsys.readouterr()
    run(monkeypatch, *where, "--estimate")
    # As long as the row that is there.
    assert f"| mlp | 48 | uge | {rows[0]['seconds'] / 3600:.2f} |" in capsys.readouterr().out

    again = []

    def counted(settings, *arguments):
        again.append(settings)
        return rows[0] | settings

    monkeypatch.setattr(calibration, "trained", counted)
    monkeypatch.setattr(calibration.Protector, "fit", None)  # its release is there
    run(monkeypatch, *where)
    assert [settings["method"] for settings in again] == ["uge"]
    assert len(json.loads(results.read_text())["rows"]) == 2
    run(monkeypatch, *where)
    assert len(again) == 1
    # Of another recipe it is another row.
    settings = next(iter(planned(calibration.SCALES["smoke"])))
    assert is_row_of(rows[0], settings)
    assert not is_row_of(rows[0] | {"recipe": settings["recipe"] | {"epochs": 2}}, settings)


def test_an_estimate_without_rows_goes_by_arithmetic(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "rate", lambda: 0.01)
    monkeypatch.setitem(calibration.GFLOP, "mlp", 0.02)
    monkeypatch.setitem(calibration.SHARE, "mlp", 0.5)
    monkeypatch.setattr(calibration, "TAP_SURROGATE", "mlp")
    run(monkeypatch, "--out", str(tmp_path), "--results", str(tmp_path / "none.json"), "--estimate")
    # 4 s an image: 60 images for four rows, and 60 * (1 + 2 / 3) passes for TAP's release.
    assert f"in all {4 * (240 + 100) / 3600:.1f} hours" in capsys.readouterr().out
