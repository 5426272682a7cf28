"""The benchmark: its figures follow from the times, and it refuses to compare what is not the same step."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.bench import __main__ as bench
from experiments.bench import commands, lowerings, together
from experiments.bench.cases import SCALES, Case, disagreement
from experiments.measured import measured

CASE = Case("perturbation_update", "gradient_matching", "cnn", 32, repeats=3, steps=2)
BEFORE = {
    "noise": np.zeros((2, 2)),
    "params/a/kernel": np.zeros(3),
    "params/head/bias": np.ones(1),
    "images": np.ones(9),
}
AFTER = {
    "loss": np.float32(2), "noise": np.array([[1.0, -1], [1, 1]]), "params/a/kernel": np.array([3.0, 0, 0]),
    "params/head/bias": np.zeros(1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "share"),
    [
        ("loss", 2.0, 0.0),
        ("loss", 2.1, 0.05),
        ("noise", np.array([[1.0, -1], [1, -1]]), 0.5),  # 2 apart where 4 were moved
        ("params/head/bias", np.full(1, 0.4), 0.1),  # 0.4 apart where all weights together moved by 4
        ("loss", np.nan, np.nan),
        ("params/a/kernel", np.array([3.0, np.nan, 0]), np.nan),
    ],
)
def test_disagreement_is_a_share_of_what_moved(name, value, share):
    expected = {"loss": 0.0, "noise": 0.0, "params": 0.0} | {name.partition("/")[0]: share}
    assert disagreement(BEFORE, AFTER | {name: value}, AFTER) == pytest.approx(expected, nan_ok=True)


class Side:
    """A side whose process has been and gone: what it would have answered."""

    asked: list[tuple[str, str]] = []
    loss = 2.0

    def __init__(self, module: str, case: Case, folder: str, checkout: Path = bench.HERE):
        self.module = module if checkout == bench.HERE else "before"
        self.seconds = iter({"ours": (1, 2, 4), "in_torch": (3, 3, 8), "before": (2, 2, 2)}[self.module])
        np.savez(Path(folder, "before.npz"), **BEFORE)
        np.savez(Path(folder, "ours.npz" if module == "ours" else "torch.npz"), **AFTER)
        if module == "ours":
            np.savez(Path(folder, "ours.npz"), **AFTER | {"loss": np.float32(self.loss)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.asked.append((self.module, "exit"))

    def __call__(self, question: str):
        self.asked.append((self.module, question))
        facts = {"backend": "cpu", "device": "x", "compile_seconds": 7, "flops": 6e9, "bytes_accessed": 5}
        if question == "seconds":
            return 0.0, next(self.seconds)
        facts |= {"product_flops": 8e9, "convolution_flops": 4e9}
        floors = {"product_seconds": (0.0, 2.0), "convolution_seconds": (0.0, 2.0)}
        return {"facts": facts, "peak_rss_mib": 100.0, **floors}[question]


@pytest.fixture
def sides(monkeypatch):
    monkeypatch.setattr(Side, "asked", [])
    monkeypatch.setattr(bench, "Side", Side)


def test_a_row_follows_from_the_times(sides):
    row = bench.measure(CASE, with_torch=True, before=Path("elsewhere"), clock=1)
    assert {name: row[name] for name in ("name", "network", "batch", "backend")} == {
        "name": "perturbation_update", "network": "cnn", "batch": 32, "backend": "cpu",
    }  # fmt: skip
    assert row["images_per_second"] == 32.0  # 2 steps on 32 images in 2 s
    assert row["torch_images_per_second"] == pytest.approx(64 / 3)
    assert row["ratio_to_torch"] == 2.0  # of 3, 1.5 and 2: each pair is one of neighbours
    assert (row["before_images_per_second"], row["ratio_to_before"]) == (32.0, 1.0)  # of 2, 1 and 0.5
    assert row["utilisation"] == 0.75  # 3e9 of 4e9 operations a second
    assert row["utilisation_of_convolution"] == 1.5
    assert row["peak_rss_mib"] == row["torch_peak_rss_mib"] == 100.0
    assert row["compile_seconds"] == 7
    timed = [module for module, question in Side.asked if question == "seconds"]
    assert timed == ["ours", "in_torch", "before"] * 3
    assert f"| {row['images_per_second']:.0f} (" in bench.line(row)
    alone = bench.measure(CASE, with_torch=False, before=None, clock=1)
    assert alone["torch_images_per_second"] is alone["ratio_to_torch"] is alone["torch_peak_rss_mib"] is None
    assert alone["images_per_second"] == 32.0


@pytest.mark.parametrize("loss", [2.01, float("nan")])
def test_what_does_not_agree_is_not_timed(sides, loss, monkeypatch):
    monkeypatch.setattr(Side, "loss", loss)
    with pytest.raises(bench.Disagreement, match="PyTorch's loss and ours differ"):
        bench.measure(CASE, with_torch=True, before=None, clock=1)
    assert "seconds" not in dict(map(reversed, Side.asked))
    assert {module for module, question in Side.asked if question == "exit"} == {"ours", "in_torch"}


def test_the_cases_after_one_that_does_not_agree_are_measured(sides, monkeypatch, tmp_path, capsys):
    """The first of three sides differs; the file holds the two others."""
    losses = iter([2.01, 2.0, 2.0])

    measure_one = bench.measure

    def measure(*arguments, **options):
        monkeypatch.setattr(Side, "loss", next(losses))
        return measure_one(*arguments, **options)

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "SCALES", {"cpu": [CASE] * 3})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("sys.argv", ["bench", "--out", str(tmp_path)])
    assert bench.main() == 0
    assert "PyTorch's loss and ours differ by 5.0e-03" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_smoke_scale(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "--scale", "smoke", "--out", str(tmp_path)])
    assert bench.main() == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [case.name for case in SCALES["smoke"]]
    for row in rows:
        for name in ("images_per_second", "utilisation", "peak_rss_mib", "compile_seconds", "flops", "bytes_accessed"):
            assert row[name] > 0, name
        assert (row["ratio_to_torch"] is None) == (importlib.util.find_spec("torch") is None)
    # A training step takes three passes over the weights but for the derivative by the image, two operations for each
    # product; the optimizer some more for each weight.
    weights = 192 * 512 + 512 * 256 + 256 * 10
    products = 2 * 4 * (3 * weights - 192 * 512)
    assert products < rows[1]["flops"] < products + 20 * weights


def test_whole_commands_are_compared_in_turn(monkeypatch, tmp_path, capsys):
    """Processor times of 1, 2, 3, ... seconds in the order of the runs."""
    ran = []

    def measure(command, *, cwd, UGEJAX_CACHE):
        ran.append((command[1], cwd, UGEJAX_CACHE))
        return {"seconds": 9.0, "cpu_seconds": float(len(ran)), "peak_rss_mib": 100.0}

    monkeypatch.setattr(commands, "measured", measure)
    options = ["--data-dir", "data", "--before", str(tmp_path), "--repeats", "2", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["commands", "--commands", "protect,evaluate", *options])
    assert commands.main() == 0
    assert [(command, cwd) for command, cwd, _ in ran] == [
        (command, cwd) for command in ("protect", "evaluate") for cwd in (bench.HERE, tmp_path)
    ] * 2
    assert len({cache for *_, cache in ran}) == len(ran)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["cpu_seconds"] for row in rows] == [3.0, 5.0]  # of 1 and 5, of 3 and 7
    assert [row["ratio_to_before"] for row in rows] == [(2 / 1 + 6 / 5) / 2, (4 / 3 + 8 / 7) / 2]
    assert "| protect | 2 | 9.0 | 3.0 | 100.0 | 9.0 | 4.0 | 100.0 | 1.60 |" in capsys.readouterr().out


def test_what_a_command_takes_is_measured():
    command = ["timeit", "-n", "1", "-r", "1", "x = bytearray(300_000_000); import time; time.sleep(0.2)"]
    took = measured(command)
    assert took["seconds"] > 0.2
    assert took["peak_rss_mib"] > 300e6 / 2**20
    with pytest.raises(SystemExit):
        measured(["timeit", "raise ValueError"])


def test_a_failed_side_is_named(tmp_path):
    case = Case("train_step", "", "no-such-network", 4, 1)
    with pytest.raises(SystemExit, match="no-such-network"), bench.Side("ours", case, str(tmp_path)) as side:
        side("facts")


def test_lowerings_are_timed_forward_and_in_both_derivatives(tmp_path, monkeypatch, capsys):
    shapes = [lowerings.Shape(2, 4, 3, 5, stride=2), lowerings.Shape(2, 4, 3, 3, depthwise=True)]
    monkeypatch.setattr(lowerings, "SHAPES", shapes)
    monkeypatch.setattr("sys.argv", ["lowerings", "--out", str(tmp_path), "--repeats", "1"])
    monkeypatch.setattr(lowerings, "keep_freed_memory", lambda: None)
    assert lowerings.main() == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["way"] for row in rows] == [
        "XLA's own", "as XLA likes", "convolve_by_matmul", "XLA's own", "as XLA likes", "convolve_by_shifts"
    ]  # fmt: skip
    assert all(row[name] > 0 for row in rows for name in ("forward", "by maps", "by kernel"))
    assert "| 2 of 4x4, 3 depthwise, 3x3 by 1 | convolve_by_shifts |" in capsys.readouterr().out


def test_both_ways_to_train_several_hackers_are_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(together, "IMAGES", 8)
    monkeypatch.setattr(together, "TEST_IMAGES", 4)
    monkeypatch.setattr(together, "EPOCHS", 1)
    together.compare(["mlp"], count=2, repeats=1, out=tmp_path)
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["ratio"] == pytest.approx(row["together_seconds"] / row["alone_seconds"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("| mlp | 2 | cpu | ")
