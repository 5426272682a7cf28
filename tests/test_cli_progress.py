"""Progress as people and programs see it."""

import io
import json

import pytest
from rich.console import Console

from ugejax.app.cli import main
from ugejax.app.cli import progress as module
from ugejax.app.cli.progress import Reporter, log_to, stop_logging


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.delenv("CI", raising=False)
    return clock


def test_without_a_terminal_there_is_a_plain_line_at_most_every_ten_seconds(clock):
    said = io.StringIO()
    with Reporter(Console(file=said, width=200)) as reporter:
        for done in range(1, 7):
            reporter.stage("perturbation", done, 10, {"loss": 0.5})
            clock.now += 4
    assert said.getvalue().splitlines() == [
        " 10% perturbation 1/10 loss 0.5000",
        " 40% perturbation 4/10 loss 0.5000, 4.0 s each, about 24 s left",
    ]


@pytest.mark.parametrize("ci", [False, True])
def test_in_a_terminal_the_line_lives_and_in_ci_it_is_plain(clock, monkeypatch, ci):
    if ci:
        monkeypatch.setenv("CI", "true")
    said = io.StringIO()
    with Reporter(Console(file=said, width=200, force_terminal=True, color_system=None)) as reporter:
        reporter.stage("epoch", 1, 2, {"loss": 0.5})
    assert ("\x1b" in said.getvalue()) is not ci
    assert ("50% epoch 1/2 loss 0.5000" in said.getvalue()) is ci


def test_every_report_is_a_line_of_json(clock, tmp_path):
    file = tmp_path / "log.jsonl"
    handler = log_to(file)
    with Reporter(Console(file=io.StringIO())) as reporter:
        reporter.update(0.0, "nothing to log")
        reporter.stage("a", 1, 4, {"loss": 2.0})
        clock.now += 2
        reporter.stage("a", 2, 4, {"loss": 1.0})
        clock.now += 1
        reporter.update(0.75, "b", stage="b", done=0, of=3)
    stop_logging(handler)
    with Reporter(Console(file=io.StringIO())) as reporter:
        reporter.stage("not logged", 1, 2, {})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(line.pop("time").endswith("+00:00") for line in lines)
    assert lines == [
        {"stage": "a", "done": 1, "of": 4, "share": 0.25, "elapsed_seconds": 0.0, "per_second": None,
         "remaining_seconds": None, "figures": {"loss": 2.0}},
        {"stage": "a", "done": 2, "of": 4, "share": 0.5, "elapsed_seconds": 2.0, "per_second": 0.5,
         "remaining_seconds": 4.0, "figures": {"loss": 1.0}},
        {"stage": "b", "done": 0, "of": 3, "share": 0.75, "elapsed_seconds": 3.0, "per_second": None,
         "remaining_seconds": 1.5, "figures": {}},
    ]  # fmt: skip


def test_what_was_found_finished_says_nothing_of_the_pace(clock, tmp_path):
    handler = log_to(tmp_path / "log.jsonl")
    with Reporter(Console(file=io.StringIO())) as reporter:
        reporter.update(0.5, "", stage="other work", done=1, of=2)
        clock.now += 999
        reporter.update(1.0, "", stage="other work", done=2, of=2)
        for done in range(3):  # of ten, all at once
            reporter.update(done / 10, "", stage="cached", done=done, of=3)
        for done in range(3, 5):
            clock.now += 30
            reporter.update(done / 10, "", stage="trained", done=done, of=8)
    stop_logging(handler)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][2:]
    told = [(line["per_second"], line["remaining_seconds"]) for line in lines]
    assert told == [(None, None)] * 3 + [(None, pytest.approx(7 * 30)), (pytest.approx(1 / 30), pytest.approx(6 * 30))]


def test_many_steps_in_one_report_have_a_pace(clock, tmp_path):
    handler = log_to(tmp_path / "log.jsonl")
    with Reporter(Console(file=io.StringIO())) as reporter:
        reporter.update(0.0, "", stage="release", done=0, of=50_000)
        clock.now += 0.5
        reporter.update(0.04, "", stage="release", done=2_000, of=50_000)
    stop_logging(handler)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["per_second"] == pytest.approx(4_000)
    assert last["remaining_seconds"] == pytest.approx(12)


def test_a_log_that_cannot_be_written_is_one_line(tmp_path, capsys):
    command = ["protect", "digits", "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K")]
    assert main([*command, "--log-json", str(tmp_path / "no" / "log")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(tmp_path.iterdir())
