"""Scalars for TensorBoard, read back record by record."""

import errno
import io
import json
import struct
import sys
from pathlib import Path

import pytest
from cli_examples import TINY, tree, write_toy
from rich.console import Console

from ugejax.app.cli import main
from ugejax.app.cli.progress import Reporter
from ugejax.app.cli.tensorboard import scalars_in
from ugejax.errors import UserError

pytest.importorskip("tensorboardX")

from tensorboardX.proto.event_pb2 import Event  # noqa: E402
from tensorboardX.record_writer import masked_crc32c  # noqa: E402


def scalars(folder: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Step and value of each scalar of each run, from the records of all event files (TFRecord, by its checksums)."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        content, first = io.BytesIO(file.read_bytes()), True
        while header := content.read(8):
            (length,) = struct.unpack("<Q", header)
            assert struct.unpack("<I", content.read(4)) == (masked_crc32c(header),)
            data = content.read(length)
            assert struct.unpack("<I", content.read(4)) == (masked_crc32c(data),)
            event = Event.FromString(data)
            assert (event.file_version == "brain.Event:2") is first and event.wall_time > 1e9
            first = False
            for value in event.summary.value:
                run = str(file.parent.relative_to(folder))
                found.setdefault((run, value.tag), []).append((event.step, value.simple_value))
    return found


def test_the_figures_of_each_stage_are_a_run(tmp_path):
    folder = tmp_path / "scalars"
    with scalars_in(folder), Reporter(Console(file=io.StringIO())) as reporter:
        for epoch in (1, 2):
            reporter.stage("hacker cnn/none", epoch, 2, {"accuracy": epoch / 4, "loss": 1.0})
        reporter.stage("a", 1, 1, {"accuracy": 0.5})
        reporter.stage("hacker cnn/none", 3, 3, {"accuracy": 0.25})
        reporter.stage("nothing", 1, 1, {})
        reporter.update(0.5, "nothing to log")
    with Reporter(Console(file=io.StringIO())) as reporter:
        reporter.stage("a", 2, 2, {"accuracy": 1.0})  # nobody follows any more
    assert scalars(folder) == {
        ("hacker-cnn-none", "accuracy"): [(1, 0.25), (2, 0.5), (3, 0.25)],
        ("hacker-cnn-none", "loss"): [(1, 1.0), (2, 1.0)],
        ("a", "accuracy"): [(1, 0.5)],
    }


def test_commands_write_losses_and_accuracies_by_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path / "toy.npz")
    assert main(["protect", "toy.npz", "--out", "R", "--key", "K", *TINY, "--tensorboard", "nothing"]) == 0
    assert not Path("nothing").exists()
    log = ["--tensorboard", "S", "--log-json", "log"]
    assert main(["train", "R", "--key", "K", "--out", "T", *log]) == 0
    lines = [json.loads(line) for line in Path("log").read_text().splitlines()]
    losses = [(line["done"], pytest.approx(line["figures"]["loss"])) for line in lines]
    assert [epoch for epoch, _ in losses] == [1, 2]
    assert scalars(Path("S")) == {("epoch", "loss"): losses}
    evaluate = ["evaluate", "R", "--key", "K", "--out", "E", "--hackers", "mlp", "--epochs", "1", "--tensorboard", "S2"]
    assert main(evaluate) == 0
    rows = json.loads(Path("E/results.json").read_text())["rows"]
    found = scalars(Path("S2"))
    assert [row["role"] for row in rows] == ["authorized", "hacker"]
    for row in rows:
        for name, kind in (("clean", "originals"), ("protected", "release")):  # trained now, or found in the cache
            curve = [(epoch, pytest.approx(value)) for epoch, value in enumerate(row["by_epoch"][name], 1)]
            assert found[(f"{row['role']}-mlp-none-on-{kind}", "accuracy")] == curve


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    from tensorboardX import event_file_writer

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="No space left"), scalars_in(tmp_path / "S"):
        monkeypatch.setattr(event_file_writer.RecordWriter, "flush", full)
        with Reporter(Console(file=io.StringIO())) as reporter:
            reporter.stage("a", 1, 1, {"accuracy": 0.5})


def test_without_the_package_it_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    before = tree(tmp_path)
    command = ["protect", "digits", "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K")]
    assert main([*command, "--tensorboard", str(tmp_path / "S")]) == 2
    assert capsys.readouterr().err == (
        "ugejax protect: --tensorboard: needs tensorboardX; pip install 'ugejax[tensorboard]'\n"
    )
    assert tree(tmp_path) == before
