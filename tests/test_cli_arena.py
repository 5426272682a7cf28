"""`ugejax arena` as people call it: what it runs, how it grows, goes on after a kill, and one line for a mistake."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_examples import begin

from ugejax.app.cli import arena_pool, main
from ugejax.app.lock import alone_in
from ugejax.app.release import read_release
from ugejax.evaluation.trial import Score, Trial

SIZE = ["--n-train", "60", "--n-test", "30", "--epochs", "1"]
NETWORKS = ["--networks", "mlp", "--authorized-network", "mlp"]


def arena(folder: Path, *more: str, methods: str = "random-class,lsp") -> list[str]:
    lsp = ["--set", "lsp.block=2"] if "lsp" in methods else []  # 8x8 images have too few blocks of 8
    return ["arena", "digits", "--out", str(folder), "--methods", methods, *lsp, *SIZE, *NETWORKS, *more]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def results(folder: Path, without: tuple[str, ...] = ("generation_seconds", "seconds")) -> dict:
    found = json.loads((folder / "results.json").read_text())
    return found | {"rows": [{name: row[name] for name in row if name not in without} for row in found["rows"]]}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Digests of the trials that would have been trained; each gets an accuracy of its own."""
    digests = []

    def run(trial, report, snapshots):
        digests.append(trial.digest)
        report(1, 1, 0.5)
        return Score([int(trial.digest[:4], 16) / 2**16], 2.0), None

    monkeypatch.setattr(Trial, "run", run)
    return digests


def test_a_grid_grows_by_what_is_missing(trained, tmp_path, capsys):
    folder = tmp_path / "arena"
    assert main(arena(folder)) == 0
    assert len(trained) == 3  # the control and two hackers
    said = capsys.readouterr()
    assert said.out.startswith((folder / "leaderboard.md").read_text())
    assert "0/3 trainings done, remaining: unknown; now protect random-class seed 0" in said.err
    assert "2/3 trainings done, remaining: about 2 s; now hacker lsp mlp none seed 0" in said.err

    releases = contents(folder / "releases")
    grown = arena(folder, "--countermeasures", "none,low-pass", methods="random-class,lsp,uge")
    assert main(grown) == 0
    # Low-pass: the control and three hackers; uge without it: the hacker, its network with and without the secret part.
    assert len(trained) == 3 + 4 + 3
    assert len(set(trained)) == len(trained)
    assert contents(folder / "releases").items() > releases.items()
    rows = results(folder, without=())["rows"]
    assert [(row["method"], row["role"], row["countermeasure"]) for row in rows] == [
        ("uge", "authorized", "none"), ("uge", "hacker", "none"), ("uge", "hacker", "low-pass"),
        ("lsp", "hacker", "none"), ("lsp", "hacker", "low-pass"),
        ("random-class", "hacker", "none"), ("random-class", "hacker", "low-pass"),
    ]  # fmt: skip
    # One control for all methods, which protect the same images.
    assert len({(row["countermeasure"], row["clean_accuracy"]) for row in rows if row["role"] == "hacker"}) == 2
    assert len({row["protected_accuracy"] for row in rows}) == len(rows)
    for row in rows:
        card = read_release(folder / "releases" / f"{row['method']}-0").card
        assert (row["psnr_mean"], row["ssim_mean"]) == (card["psnr"]["mean"], card["ssim"]["mean"])
        assert (row["realised_linf"], row["epochs"]) == (card["realised_eps"]["linf"], 1)
        assert row["generation_seconds"] > 0
        assert row["retention"] == row["protected_accuracy"] / row["clean_accuracy"]
    assert rows[0]["retention"] == 1.0
    assert rows[0]["backbone_accuracy"] not in (None, rows[0]["clean_accuracy"])
    key = folder / "keys" / "uge-0"
    assert stat.S_IMODE(key.stat().st_mode) == 0o700
    assert read_release(folder / "releases" / "uge-0").card["key_fingerprint"] in (key / "key.json").read_text()

    before = contents(folder / "releases")
    assert main(grown) == 0
    assert main(arena(folder, methods="lsp")) == 0  # a part of what is there
    assert len(trained) == 10
    assert contents(folder / "releases") == before
    assert results(folder, without=())["rows"] == rows

    stale = json.loads((folder / "results.json").read_text())
    for row in stale["rows"]:
        row |= {"environment": "other code", "protected_accuracy": 0.0}
    (folder / "results.json").write_text(json.dumps(stale))
    assert main(grown) == 0  # made again, of trials in the cache
    assert len(trained) == 10
    assert results(folder, without=())["rows"] == rows

    assert main(arena(folder, "--seeds", "2", methods="random-class")) == 0
    assert len(trained) == 12
    assert {row["seed"] for row in results(folder)["rows"] if row["method"] == "random-class"} == {0, 1}
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == (folder / "leaderboard.md").read_text()


def test_two_arenas_in_one_folder_are_refused(trained, tmp_path, capsys):
    folder = tmp_path / "arena"
    assert main(arena(folder)) == 0
    before = contents(folder)
    capsys.readouterr()
    with alone_in(folder):
        assert main(arena(folder, "--seeds", "2", methods="random-class,random")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert contents(folder) == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The arena that the next tests come to in other ways."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = arena(folder / "arena", "--countermeasures", "none,low-pass", "--cache", str(folder / "cache"))
    assert main(command) == 0
    return folder / "arena"


def test_a_killed_arena_goes_on_to_the_same_results(undisturbed, tmp_path):
    command = arena(tmp_path / "arena", "--countermeasures", "none,low-pass")
    process = begin(main, command, said=tmp_path / "said")
    file = tmp_path / "arena" / "results.json"
    while not file.exists():
        assert process.exitcode is None
        time.sleep(0.01)
    process.kill()
    process.join()
    some = results(tmp_path / "arena")["rows"]
    assert 0 < len(some) < 4
    assert "random-class" in (tmp_path / "arena" / "leaderboard.html").read_text()
    (file.parent / ".results.json.partial").write_text("[")  # cut off while it was written
    assert main(command) == 0
    assert results(tmp_path / "arena") == results(undisturbed)
    assert len(results(undisturbed)["rows"]) == 4
    assert all(row in results(undisturbed)["rows"] for row in some)


def test_jobs_side_by_side_find_the_same_as_one_after_the_other(undisturbed, tmp_path):
    assert main(arena(tmp_path / "arena", "--countermeasures", "none,low-pass", "--jobs", "2")) == 0
    assert results(tmp_path / "arena") == results(undisturbed)


def test_jobs_end_when_the_arena_is_killed(tmp_path):
    command = arena(tmp_path / "arena", "--jobs", "2", "--epochs", "1000000", methods="random-class")
    process = subprocess.Popen(
        [sys.executable, "-m", "ugejax", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "arena" / "releases" / "random-class-0").exists():  # one job is done, and the other trains
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=20)  # the jobs write there too


def test_a_job_that_fails_beside_others_is_named(tmp_path, capsys):
    command = ["arena", "digits", "--out", str(tmp_path / "A"), "--methods", "lsp", "--jobs", "2", *SIZE, *NETWORKS]
    assert main(command) == 2
    assert "protect lsp seed 0: lsp: blocks of 8 pixels" in capsys.readouterr().err


def end_at_once(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out


def test_a_job_that_was_killed_beside_others_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(arena_pool, "_work", end_at_once)
    assert main(arena(tmp_path / "arena", "--jobs", "2")) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "ugejax arena: a process of --jobs was ended, perhaps for want of memory; give fewer --jobs"
    )


def test_an_interrupted_arena_goes_on(trained, tmp_path, monkeypatch, capsys):
    command = arena(tmp_path / "arena", methods="uge")
    train = Trial.run

    def interrupt(trial, report, snapshots):
        if trained:
            raise KeyboardInterrupt
        return train(trial, report, snapshots)

    monkeypatch.setattr(Trial, "run", interrupt)
    assert main(command) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("ugejax arena: interrupted; the same command goes on")
    assert not (tmp_path / "arena" / "results.json").exists()
    monkeypatch.setattr(Trial, "run", train)
    assert main(command) == 0
    assert len(set(trained)) == len(trained) == 4


MISTAKES = {
    "method": (["--methods", "lsq"], "--methods: unknown 'lsq': did you mean 'lsp'"),
    "no method": (["--methods", ","], "--methods: names none"),
    "network": (["--networks", "cnnn"], "--networks: unknown network 'cnnn': did you mean 'cnn'"),
    "authorized network": (["--authorized-network", "cnnn"], "--authorized-network: unknown network 'cnnn'"),
    "countermeasure": (["--countermeasures", "gray"], "--countermeasures: unknown 'gray': did you mean 'grey'"),
    "eps": (["--eps", "8"], "8/255"),
    "seeds": (["--seeds", "0"], "--seeds"),
    "jobs": (["--jobs", "1000"], "--jobs 1000: more than the"),
    "setting": (["--set", "random-class.block=2"], "this method has no settings"),
    "setting of another method": (["--set", "em.rounds=2"], "of a baseline that --methods names"),
    "network for larger images": (["--networks", "mlp,vgg16-bn"], "--networks: vgg16-bn: images of 8x8 are too small"),
    "authorized network for larger images": (
        ["--methods", "random-class,uge", "--authorized-network", "vgg16-bn"],
        "--authorized-network: vgg16-bn: images of 8x8 are too small",
    ),
    "too many images": (["--n-train", "1800"], "1800"),
    "another grid": (["--out", "arena", "--epochs", "2"], "epochs 1, not 2"),
    "other settings": (["--out", "arena", "--methods", "lsp", "--set", "lsp.block=1"], "holds lsp with --set"),
    "cache": (["--cache", "file"], "file: cannot be written (File exists); choose another folder with --cache"),
    "no arena": (["--out", "other"], "--out other: exists and is no arena"),
    "no folder": (["--out", "file"], "--out file: exists and is no arena"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with an arena, another folder and a file."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trial, "run", lambda trial, report, snapshots: (Score([0.5], 1.0), None))
        assert main(arena(folder / "arena", "--cache", str(folder / "cache"), methods="lsp")) == 0
    (folder / "other").mkdir()
    (folder / "other" / "file").touch()
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, place, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(place)
    before = contents(place)
    try:
        code = main([*arena(Path("new"), methods="random-class"), *arguments])
    except SystemExit as exit:  # what the parser refuses
        code = exit.code
    output = capfd.readouterr()
    assert code == 2
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("ugejax arena: ")
    assert says in output.err
    assert output.out == ""
    assert contents(place) == before
    assert not (place / "new").exists()


def test_a_source_must_be_there_and_have_test_images(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.copytree("arena/releases/lsp-0", "images")
    (Path("images") / "data.npz").rename("images.npz")
    for source, says in (("no-such", "no-such"), ("images.npz", "images.npz: has no test images")):
        command = ["arena", source, "--out", "new", "--methods", "random-class"]
        assert main(command) == 2
        assert says in capsys.readouterr().err
        assert not Path("new").exists()


def test_a_method_that_does_not_suit_the_images_is_named(tmp_path, capsys):
    assert main(["arena", "digits", "--out", str(tmp_path / "A"), "--methods", "lsp", *SIZE, *NETWORKS]) == 2
    assert "protect lsp seed 0: lsp: blocks of 8 pixels" in capsys.readouterr().err


def test_a_mistyped_setting_leaves_the_folder_to_the_right_one(trained, tmp_path, capsys):
    folder = tmp_path / "arena"
    command = arena(folder, methods="random-class,lsp")
    assert main([*command, "--set", "lsp.block=9"]) == 2  # more than the images have
    assert "lsp: blocks of 9 pixels" in capsys.readouterr().err
    assert main(command) == 0
    assert main([*command, "--set", "lsp.block=4"]) == 2  # not of the release that is there now
    assert "holds lsp with --set ['block=2']" in capsys.readouterr().err
