"""The script for the day on which an accelerator is at hand: whole at its smallest scale, here on a processor."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.accelerator import __main__ as script
from experiments.accelerator import equality, timings
from experiments.accelerator.equality import Case, compared, told
from experiments.accelerator.scale import SCALES, Job


def stage(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def test_all_stages_at_the_smallest_scale_and_what_is_done_is_kept(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["--out", str(out), "--scale", "smoke", "--minutes", "60"]  # seconds, where nothing else runs
    assert script.main(command) == 0, capsys.readouterr()
    assert "left for another time: nothing; failed: none" in capsys.readouterr().out
    found = {name: stage(out, name) for name in script.STAGES}
    assert all(one["done"] and one["error"] is None for one in found.values())
    assert [row["name"] for row in found["equality"]["rows"]] == list(SCALES["smoke"].cases)
    assert all(row["agrees"] for row in found["equality"]["rows"])
    steps = found["steps"]["rows"]
    assert [row["step"] for row in steps] == ["train_step", "perturbation_update", "pgd_step"]
    for row in steps:
        assert row["utilisation"] == pytest.approx(row["flops"] / row["seconds"] / row["product_flops_per_second"])
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds"]) and row["estimated_bytes"] > 0
    assert [row["parametrisation"] for row in found["bulk"]["rows"]] == ["class-wise", "generator"]
    assert [row["trained_on"] for row in found["full-size"]["rows"]] == ["release", "originals"]
    for row in found["ways"]["rows"]:
        assert row["ratio"] == pytest.approx(row["seconds"] / row["other_seconds"])

    monkeypatch.setattr(script, "STAGES", dict.fromkeys(script.STAGES))  # nothing that could be called again
    assert script.main(command) == 0


def test_it_stops_between_rows_when_its_time_is_over_and_goes_on_another_day(tmp_path, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 40))  # seconds
    monkeypatch.setattr(script, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    begun = []

    def rows(job):
        begun.append(len(begun))
        yield from ({"number": number} for number in range(3))

    def broken(job):
        yield {"number": 0}
        raise ValueError("no such thing")

    monkeypatch.setattr(script, "STAGES", {"first": rows, "second": broken, "third": rows})
    command = ["--out", str(tmp_path), "--scale", "smoke"]
    assert script.main([*command, "--minutes", "3"]) == 0
    assert "left for another time: first, second, third" in capsys.readouterr().out
    assert not stage(tmp_path, "first")["done"] and 0 < len(stage(tmp_path, "first")["rows"]) < 3
    assert script.main([*command, "--minutes", "60"]) == 1
    told = capsys.readouterr()
    assert "left for another time: nothing; failed: second" in told.out and "no such thing" in told.err
    assert len(stage(tmp_path, "first")["rows"]) == len(stage(tmp_path, "third")["rows"]) == 3
    assert stage(tmp_path, "second")["error"] == "ValueError: no such thing" and begun == [0, 1, 2]
    assert script.main([*command, "--minutes", "60"]) == 1 and begun == [0, 1, 2]  # what failed is tried again, alone


def test_what_is_not_equal_is_told():
    values = np.linspace(-1, 1, 200, dtype=np.float32)
    recorded, case = {"a": told(values)}, Case(dict, 1e-3, flips=0.05)
    assert compared(case, recorded, recorded) == {
        "bitwise": True, "apart": 0.0, "share_outside": 0.0, "agrees": True
    }  # fmt: skip
    near = {"a": told(values + np.float32(5e-4))}
    assert compared(case, near, recorded)["agrees"] and not compared(case, near, recorded)["bitwise"]
    assert compared(case, near, recorded)["apart"] == pytest.approx(5e-4, rel=1e-2)
    assert not compared(Case(dict, 0), near, recorded)["agrees"]
    for changed, agrees in ((slice(0, 4), True), (slice(0, 40), False)):  # of the 64 that are told 2 or 13
        flipped = values.copy()
        flipped[changed] *= -1
        assert compared(case, {"a": told(flipped)}, recorded)["agrees"] == agrees
    assert not compared(case, {"a": told(np.full(200, np.nan, np.float32))}, recorded)["agrees"]


def test_what_is_recorded_are_results_of_cases():
    recorded = json.loads(equality.REFERENCE.read_text())["cases"]
    assert set(SCALES["smoke"].cases) <= recorded.keys() <= equality.cases().keys()
    assert all(one["values"] and one["sha256"] for case in recorded.values() for one in case.values())


def test_scales_name_what_there_is():
    for scale in SCALES.values():
        assert set(scale.cases or ()) <= equality.cases().keys()
        assert set(scale.ways or ()) <= timings.WAYS.keys()
    assert Job(SCALES["smoke"], Path()).data_dir is None
