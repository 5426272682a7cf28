"""What goes wrong around the work: a full disk, a damaged checkpoint, a loss that is no number. Nothing gets lost."""

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_examples import make_evaluation, make_trial
from release_examples import make_originals

from ugejax.app.cache import FolderCache
from ugejax.app.checkpoint import StepCheckpoints, restore_tree, save_tree
from ugejax.app.cli import main
from ugejax.app.files import replace_text, replaced
from ugejax.app.seal import Seal
from ugejax.errors import UserError
from ugejax.evaluation import evaluate
from ugejax.evaluation.trial import Trial
from ugejax.training.loop import check_finite

TREE = {"a": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}  # random, so that it stays this large


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writing a larger file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_cannot_be_replaced_stays_what_it_was(tmp_path):
    file = tmp_path / "results.json"
    replace_text(file, "old")
    with no_file_above(1000), pytest.raises(UserError, match=r"results\.json: cannot be written \(File too large\)"):
        replace_text(file, "new" * 1000)
    assert file.read_text() == "old"
    with pytest.raises(KeyError), replaced(file) as half:
        half.write(b"half")
        raise KeyError
    assert file.read_text() == "old"
    assert files(tmp_path) == ["results.json"]
    replace_text(file, "new")
    assert file.read_text() == "new"
    assert files(tmp_path) == ["results.json"]


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "the disk is full; make room or choose"), (errno.EROFS, "no permission"), (errno.EIO, "error")],
)
def test_what_the_system_refuses_is_said_in_words(number, says, tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=says):
        replace_text(tmp_path / "file", "text")
    assert files(tmp_path) == []


def test_files_of_several_processes_do_not_meet(tmp_path):
    with replaced(tmp_path / "file", shared=True):
        assert files(tmp_path) == [f".file.{os.getpid()}.partial"]


def test_a_checksum_that_is_no_text_and_a_name_that_is_no_step_are_no_traceback(tmp_path):
    checkpoints = StepCheckpoints(tmp_path, seal=Seal(bytes(16), required=False))
    checkpoints.save(1, TREE)
    (tmp_path / "of another.sealed").touch()
    assert checkpoints.steps() == [1]
    (tmp_path / "1" / "sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="sha256: the checkpoint is damaged"):
        checkpoints.restore(1, TREE)


def test_on_a_full_disk_the_steps_before_are_kept_and_nothing_is_printed(tmp_path, capfd):
    checkpoints = StepCheckpoints(tmp_path / "steps")
    checkpoints.save(1, TREE)
    with no_file_above(4096):
        with pytest.raises(OSError, match="File too large") as refused:
            checkpoints.save(2, TREE)
        with pytest.raises(OSError, match="File too large"):
            save_tree(tmp_path / "tree", TREE)
    assert refused.value.filename == str(tmp_path / "steps")
    again = StepCheckpoints(tmp_path / "steps")
    assert again.steps() == [1]
    np.testing.assert_array_equal(again.restore(1, TREE)["a"], TREE["a"])
    again.save(2, TREE)
    assert again.steps() == [2]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("damage", ["one bit", "cut off", "no metadata"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path, capfd):
    StepCheckpoints(tmp_path / "steps").save(3, TREE)
    save_tree(tmp_path / "tree", TREE)
    for folder in (tmp_path / "steps" / "3", tmp_path / "tree"):
        largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        if damage == "one bit":
            content[len(content) // 2] ^= 4
            largest.write_bytes(content)
        elif damage == "cut off":
            largest.write_bytes(content[: len(content) // 2])
        else:
            next(folder.rglob("_METADATA")).unlink()
    with pytest.raises(UserError, match=r"steps/3: the checkpoint is damaged.*remove it"):
        StepCheckpoints(tmp_path / "steps").restore(3, TREE)
    with pytest.raises(UserError, match=r"tree: the checkpoint is damaged"):
        restore_tree(tmp_path / "tree", TREE)
    assert "Traceback" not in capfd.readouterr().err


def test_keys_of_a_checkpoints_metadata_that_nobody_knows_are_refused(tmp_path):
    StepCheckpoints(tmp_path / "steps").save(3, TREE)
    metadata = tmp_path / "steps" / "3" / "_CHECKPOINT_METADATA"
    metadata.write_text(metadata.read_text().replace("timestamp", "times4amp"))  # of two keys
    with pytest.raises(UserError, match=r"steps: what is written about its checkpoints is damaged \(ValueError\)"):
        StepCheckpoints(tmp_path / "steps")


def test_a_checkpoint_of_an_earlier_version_has_no_checksum(tmp_path):
    StepCheckpoints(tmp_path).save(1, TREE)
    (tmp_path / "1" / "sha256").unlink()
    np.testing.assert_array_equal(StepCheckpoints(tmp_path).restore(1, TREE)["a"], TREE["a"])


def test_the_first_loss_that_is_no_number_is_named():
    check_finite({"a": jnp.ones(3)}, 1)
    losses = {"a": jnp.array([1, 1, jnp.nan]), "b": jnp.array([1, jnp.inf, jnp.nan])}
    with pytest.raises(UserError, match="^b was inf in step 2 of epoch 4; lower it$"):
        check_finite(losses, 4, advice="; lower it")


def test_a_training_whose_loss_is_no_number_stops_and_says_whose(tmp_path):
    images = np.full((12, 8, 8, 1), np.nan, np.float32)
    reports = []
    with pytest.raises(UserError, match="the training loss was nan in step 1 of epoch 1"):
        make_trial(images=images).run(lambda *report: reports.append(report))
    assert reports == []
    # The score of one that stopped is in no cache.
    with pytest.raises(UserError):
        make_trial(images=images).run_cached(FolderCache(tmp_path), lambda *_: None)
    assert files(tmp_path) == []


def test_an_evaluation_says_who_could_not_be_trained(tmp_path, monkeypatch):
    def run(trial, report, snapshots):
        raise UserError("the training loss was nan in step 1 of epoch 1")

    monkeypatch.setattr(Trial, "run", run)
    with pytest.raises(UserError, match="^authorized mlp none on originals: the training loss was nan"):
        evaluate(make_evaluation(), FolderCache(tmp_path))


def test_a_baseline_whose_figures_are_no_numbers_writes_nothing(tmp_path, monkeypatch, capsys):
    from ugejax.app.cli import baseline
    from ugejax.baselines import BASELINES, NoSettings

    class Broken:
        settings, norm = None, "linf"

        def protect(self, *_, report, **__):
            report("rounds", 2, 5, {"loss": float("nan")})

        def default_eps(self, _):
            return 8 / 255

    monkeypatch.setitem(BASELINES, "em", Broken())
    monkeypatch.setattr(baseline, "change_settings", lambda *_: NoSettings())
    assert main(["protect", "digits", "--n-train", "60", "--out", str(tmp_path / "R"), "--method", "em"]) == 2
    assert "--method em: loss was nan at rounds 2 of 5" in capsys.readouterr().err
    assert files(tmp_path) == []


def test_a_release_in_which_nothing_changed_is_said_to_be_one(tmp_path, capsys):
    from ugejax.app.cli.releasing import describe_psnr
    from ugejax.app.release import read_release, write_release

    originals = make_originals()
    card = {"method": "uge", "seed": 0, "eps": 8 / 255, "norm": "linf", "key_fingerprint": "abc123"}
    write_release(
        tmp_path / "R", images=originals.images, labels=originals.labels, class_names=originals.class_names,
        originals=originals.images, card=card,
    )  # fmt: skip
    assert describe_psnr(read_release(tmp_path / "R").card) == "all of them as they were"
    assert describe_psnr({"psnr": {"mean": 30.04}}) == "PSNR 30.0 dB on average"


def test_a_log_on_a_full_disk_is_one_line(tmp_path, capsys):
    command = ["protect", "digits", "--n-train", "60", "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K")]
    command += ["--network", "mlp", "--surrogates", "mlp", "--perturbation-epochs", "1", "--log-json", "/dev/full"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--log-json /dev/full: cannot be written" in error
    assert not (tmp_path / "R").exists()


def test_kills_can_be_counted(tmp_path):
    """The experiment that kills tells a broken file from a whole one."""
    from experiments.kills import VICTIMS, Victim, contents, left_behind

    victim = VICTIMS["evaluate"]
    assert left_behind(tmp_path, victim) == "0 of 4 whole"
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"rows": [{"seconds": 1.0, "a": 1}]}))
    assert left_behind(tmp_path, victim) == "1 of 4 whole"
    (folder / "images.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert left_behind(tmp_path, victim) == "broken: evaluation/images.png was cut off"
    (folder / "results.json").write_text('{"rows"')
    (folder / "images.png").unlink()
    assert left_behind(tmp_path, victim).startswith("broken: ")
    results = Victim(victim.arguments, ("evaluation/results.json",))
    digests = []
    for seconds in (1.0, 2.0):
        (folder / "results.json").write_text(json.dumps({"rows": [{"seconds": seconds, "a": 1}]}))
        digests.append(contents(tmp_path, results))
    assert digests[0] == digests[1]
