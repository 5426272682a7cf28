"""The commands as people call them: what they leave behind, and one line for a mistake."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ugejax.cli import main
from ugejax.cli.lock import alone_in

TINY = ["--network", "mlp", "--surrogates", "mlp", "--n-test", "12", "--eps", "32/255", "--epochs", "2"]
PNG = b"\x89PNG\r\n\x1a\n"


def write_toy(path: Path, *, seed: int = 0) -> Path:
    """60 8x8 images of three classes that differ in which third of the rows is bright."""
    labels = np.arange(60) % 3
    images = np.random.default_rng(seed).integers(0, 120, (60, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 130
    np.savez(path, data=images.astype(np.uint8), targets=labels)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Every path below a folder, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def protect(folder: Path, name: str, *more: str) -> list[str]:
    source, out, key = folder / "toy.npz", folder / name, folder / f"key-{name}"
    return ["protect", str(source), "--out", str(out), "--key", str(key), *TINY, *more]


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ugejax", *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "UGEJAX_CACHE": str(cache)},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with toy.npz, a release R, its key key-R, and the release other of another key."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    done = run(*protect(folder, "R", "--seed", "0"), cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    assert main(protect(folder, "other", "--seed", "1")) == 0
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of `made` to be changed; the card remembers the original place of toy.npz, which is still there."""
    return Path(shutil.copytree(made, tmp_path / "place"))


def test_release_and_key(made):
    card = json.loads((made / "R" / "card.json").read_text())
    key = json.loads((made / "key-R" / "key.json").read_text())
    assert set(tree(made / "R")) == {"data.npz", "card.json", "manifest.csv"}
    assert card["method"] == "uge"
    assert card["eps"] == pytest.approx(32 / 255)
    assert 0 < card["realised_eps"]["linf"] <= card["eps"] + 1e-9
    assert card["key_fingerprint"] == key["fingerprint"]
    assert any("class-means" in limit for limit in card["limits"])
    assert any("low-pass" in limit for limit in card["limits"])
    assert card["source"]["name"] == str(made / "toy.npz")
    with np.load(made / "R" / "data.npz") as data:
        assert data["data"].shape == (48, 8, 8, 1)
        assert data["targets"].dtype == np.int32
    for content in tree(made / "R").values():
        assert key["secret"].encode() not in content
        assert bytes.fromhex(key["secret"]) not in content
    assert stat.S_IMODE((made / "key-R").stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "key-R" / "key.json").stat().st_mode) == 0o600
    assert [path.name for path in made.iterdir() if "partial" in path.name] == []


def test_a_second_time_there_is_nothing_to_do(made, capsys):
    before = tree(made)
    assert main(protect(made, "R", "--seed", "0")) == 0
    assert "nothing to do" in " ".join(capsys.readouterr().out.split())
    assert main(protect(made, "R")) == 0  # the key is there; the seed need not be repeated
    assert tree(made) == before


def test_the_seed_decides_and_without_it_no_two_keys_are_alike(place, capsys):
    again = protect(place, "again", "--seed", "0")
    again[1] = str(json.loads((place / "R" / "card.json").read_text())["source"]["name"])
    assert main(again) == 0
    assert "guess" in capsys.readouterr().out
    assert tree(place / "again") == tree(place / "R")
    assert (place / "key-again" / "key.json").read_bytes() == (place / "key-R" / "key.json").read_bytes()
    for name in ("a", "b"):
        assert main(protect(place, name)) == 0
    assert "guess" not in capsys.readouterr().out
    cards = [json.loads((place / name / "card.json").read_text()) for name in ("R", "other", "a", "b")]
    assert len({card["key_fingerprint"] for card in cards}) == 4
    assert [card["key_from_seed"] for card in cards] == [True, True, False, False]


def test_images_on_request(place):
    assert main(protect(place, "pictures", "--save-images")) == 0
    pictures = sorted((place / "pictures" / "images").iterdir())
    assert len(pictures) == 48
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)


def test_evaluate_and_report(made, tmp_path, capsys):
    out = tmp_path / "E"
    arguments = ["evaluate", str(made / "R"), "--key", str(made / "key-R"), "--out", str(out)]
    assert main([*arguments, "--hackers", "wrong-key", "--countermeasures", "none,blur", "--epochs", "1"]) == 0
    table = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert {"schema", "dataset", "release", "n_train", "n_test", "seed", "rows", "summary"} <= set(results)
    assert (results["schema"], results["n_train"], results["n_test"]) == (1, 48, 12)
    assert results["release"] == str(made / "R")
    assert 0 < results["realised_linf"] <= 32
    roles = [(row["role"], row["network"], row["countermeasure"]) for row in results["rows"]]
    assert roles == [
        ("authorized", "mlp", "none"),
        ("wrong_key", "mlp", "none"),
        ("wrong_key", "mlp", "blur"),
    ]
    for row in results["rows"]:
        assert {
            "clean_accuracy", "protected_accuracy", "protected_peak_accuracy", "retention", "epochs", "seconds", "seed"
        } <= set(row)  # fmt: skip
        assert 0 <= row["protected_accuracy"] <= row["protected_peak_accuracy"] <= 1
        assert row["epochs"] == 1
    # The view of the release is that of the originals, bit by bit, hence so is the trained network.
    assert results["rows"][0]["clean_accuracy"] == results["rows"][0]["protected_accuracy"]
    assert {"authorized_retention", "worst_hacker", "worst_hacker_countermeasure", "mean_hacker"} <= set(
        results["summary"]
    )
    for name in ("images.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(PNG)
    assert main(["report", str(out)]) == 0
    said = f"{out}/report.html: open it in a browser; report.md beside it says the same as text\n"
    assert capsys.readouterr().out == table + said
    key = json.loads((made / "key-R" / "key.json").read_text())
    with np.load(out / "evidence.npz") as evidence:
        assert [str(title) for title in evidence["feature_titles"]] == ["authorized mlp, trained on the release"]
        assert evidence["features"].shape == (1, 12, 12)
    for name in ("report.html", "report.md", "results.json", "evidence.npz"):
        content = (out / name).read_bytes()
        assert key["secret"].encode() not in content
        assert bytes.fromhex(key["secret"]) not in content


def test_attack_needs_no_key_and_takes_a_purifier(made, tmp_path, monkeypatch):
    out = tmp_path / "A"
    (tmp_path / "beside.py").write_text("def negative(images):\n    return 255 - images\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["attack", str(made / "R"), "--out", str(out), "--hackers", "mlp", "--epochs", "1"]
    assert main([*arguments, "--purifier", "beside:negative"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [(row["role"], row["countermeasure"]) for row in results["rows"]] == [
        ("hacker", "none"), ("hacker", "purifier")
    ]  # fmt: skip
    assert results["summary"]["authorized_retention"] is None


def test_train_needs_the_release_and_the_key_alone(place, tmp_path, capsys):
    card = json.loads((place / "R" / "card.json").read_text())
    hidden = Path(card["source"]["name"]).rename(tmp_path / "elsewhere.npz")
    try:
        arguments = ["train", str(place / "R"), "--key", str(place / "key-R"), "--out", str(tmp_path / "T")]
        assert main(arguments) == 0
        assert main([*arguments, "--test", str(hidden)]) == 0
    finally:
        hidden.rename(card["source"]["name"])
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "T" / "results.json").read_text())
    assert (results["epochs"], results["n_train"], results["form"]) == (2, 48, "keyed-dither")
    assert 0 <= results["accuracy"]["training"] <= 1
    assert 0 <= results["accuracy"]["test"] <= 1
    # The second call found the trained network and scored it again.
    assert lines[0].split(", ")[0] in lines[1]


@pytest.mark.parametrize("command", ["protect", "train", "attack"])
def test_two_runs_in_one_folder_are_refused(command, place, capsys):
    if command == "protect":
        arguments = protect(place, "new", "--seed", "0")
        assert main(arguments) == 0
        shutil.rmtree(place / "new")
        (held,) = (place / "key-new" / "runs").iterdir()
    else:
        held = place / "trained"
        held.mkdir()
        more = ["--key", str(place / "key-R")] if command == "train" else ["--hackers", "mlp"]
        arguments = [command, str(place / "R"), "--out", str(held), "--epochs", "1", *more]
    before = tree(place)
    capsys.readouterr()
    with alone_in(held):
        assert main(arguments) == 2
    error = capsys.readouterr().err
    assert str(held) in error and error.count("\n") == 1
    assert tree(place) == before
    assert main(arguments) == 0


def test_verify(place, tmp_path, capsys):
    arguments = ["verify", str(place / "R"), "--key", str(place / "key-R"), "--originals", "card"]
    assert main([*arguments, "--out", str(tmp_path / "checks.json")]) == 0
    said = capsys.readouterr().out
    assert "differs by at most 0 grey levels" in next(line for line in said.splitlines() if "blindness" in line)
    assert "FAILED" not in said
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert checks["passed"]
    assert {"blindness", "realised eps", "key fingerprint"} <= {check["name"] for check in checks["checks"]}

    assert main(["verify", str(place / "R"), "--key", str(place / "key-other")]) == 1
    assert "FAILED key fingerprint" in capsys.readouterr().out


@pytest.mark.parametrize("with_originals", [False, True])
def test_verify_finds_one_changed_pixel(place, capsys, with_originals):
    file = place / "R" / "data.npz"
    with np.load(file) as data:
        images, targets = data["data"].copy(), data["targets"]
    images[5, 0, 0] ^= 255
    np.savez(file, data=images, targets=targets)
    assert main(["verify", str(place / "R"), *(["--originals", "card"] if with_originals else [])]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_baseline_makes_a_release_and_no_key(made, tmp_path, capsys):
    out = tmp_path / "em"
    settings = ["--set", "surrogate=mlp", "--set", "rounds=1", "--set", "pgd_steps=2", "--set", "train_steps=2"]
    command = ["protect", str(made / "toy.npz"), "--out", str(out), "--key", str(tmp_path / "K"), "--method", "em"]
    assert main([*command, *settings, "--n-test", "12", "--eps", "32/255"]) == 0
    assert not (tmp_path / "K").exists()
    card = json.loads((out / "card.json").read_text())
    assert (card["method"], card["settings"]["rounds"], card["settings"]["surrogate"]) == ("em", 1, "mlp")
    assert 0 < card["realised_eps"]["linf"] <= 32 / 255 + 1e-9
    assert main(["verify", str(out), "--originals", "card"]) == 0
    before = tree(out)
    assert main([*command, *settings, "--n-test", "12", "--eps", "32/255"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert tree(out) == before
    attacked = ["attack", str(out), "--out", str(tmp_path / "A"), "--hackers", "mlp", "--epochs", "2"]
    assert main(attacked) == 0
    rows = json.loads((tmp_path / "A" / "results.json").read_text())["rows"]
    assert [(row["role"], row["network"]) for row in rows] == [("hacker", "mlp")]


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("res-tiny", "r18", "keyed-dither", "frozen-backbone", "crop-flip", "ueraser-max", "em-class"):
        assert name in said


MISTAKES = {
    "unknown source": (["protect", "no-such", "--out", "new", "--key", "new-key", *TINY], "no-such"),
    "eps 8": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "8"], "8/255"),
    "eps no number": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "much"], "much"),
    "form": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--authorized", "plane"], "--authorized"),
    "network": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--network", "cnnn"], "did you mean 'cnn'"),
    "surrogate": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", "mlpp"], "mlpp"),
    "network for larger images": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--network", "vgg16-bn"],
        "too small for VGG: choose another network, or protect with --image-size 32",
    ),
    "surrogate for larger images": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", "mlp,vgg16-bn"],
        "too small for VGG",
    ),
    "hacker for larger images": (["attack", "R", "--out", "new", "--hackers", "mlp,vgg16-bn"], "too small for VGG"),
    "no surrogate": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--surrogates", ","], "--surrogates"),
    "too many": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--n-train", "99"], "99"),
    "dither": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--authorized", "plain", "--dither-step", "9"],
        "--dither-step",
    ),
    "key inside release": (["protect", "toy.npz", "--out", "new", "--key", "new/key", *TINY], "--key new/key"),
    "release inside key": (["protect", "toy.npz", "--out", "new/R", "--key", "new", *TINY], "--key new"),
    "key is no key": (["protect", "toy.npz", "--out", "new", "--key", "R", *TINY], "no key folder"),
    "other release there": (["protect", "toy.npz", "--out", "other", "--key", "key-R", *TINY], "--out other"),
    "other release there, new key": (["protect", "toy.npz", "--out", "R", "--key", "new-key", *TINY], "--out R"),
    "seed of another key": (["protect", "toy.npz", "--out", "new", "--key", "key-R", *TINY, "--seed", "5"], "--seed 5"),
    "key of another form": (
        ["protect", "toy.npz", "--out", "new", "--key", "key-R", *TINY, "--authorized", "plain"],
        "--key key-R",
    ),
    "wrong key": (["evaluate", "R", "--key", "key-other", "--out", "new"], "--key key-other"),
    "wrong key to train": (["train", "R", "--key", "key-other", "--out", "new"], "--key key-other"),
    "no key there": (["train", "R", "--key", "nowhere", "--out", "new"], "--key nowhere"),
    "no release there": (["train", "nowhere", "--key", "key-R", "--out", "new"], "nowhere"),
    "no release to evaluate": (["evaluate", "nowhere", "--key", "key-R", "--out", "new"], "nowhere"),
    "no release to verify": (["verify", "nowhere"], "nowhere"),
    "hackers": (["evaluate", "R", "--key", "key-R", "--out", "new", "--hackers", "mlpp"], "--hackers"),
    "counter-measures": (["attack", "R", "--out", "new", "--countermeasures", "jpeg"], "--countermeasures"),
    "attack with a key": (["attack", "R", "--out", "new", "--hackers", "wrong-key"], "wrong-key"),
    "purifier without a function": (["attack", "R", "--out", "new", "--countermeasures", "purifier"], "--purifier"),
    "purifier's name": (["attack", "R", "--out", "new", "--purifier", "numpy"], "'numpy' names no function"),
    "purifier's module": (["attack", "R", "--out", "new", "--purifier", "no_such:clean"], "No module named 'no_such'"),
    "purifier's function": (["attack", "R", "--out", "new", "--purifier", "numpy:clean"], "has no function clean"),
    "purifier fails": (["attack", "R", "--out", "new", "--purifier", "math:sqrt"], "purifier: failed: TypeError"),
    "purifier's shape": (["attack", "R", "--out", "new", "--purifier", "numpy:ravel"], "purifier: gave an array"),
    "purifier's type": (["attack", "R", "--out", "new", "--purifier", "numpy:float64"], "purifier: gave float64"),
    "purifier's range": (["attack", "R", "--out", "new", "--purifier", "numpy:float32"], "float32 is in [0, 1]"),
    "dp-sgd with batch norm": (
        ["attack", "R", "--out", "new", "--hackers", "r20", "--countermeasures", "dp-sgd"],
        "batch norm leaves r20 none",
    ),
    "other originals": (["evaluate", "R", "--key", "key-R", "--out", "new", "--originals", "digits"], "originals"),
    "no epochs": (["evaluate", "R", "--key", "key-R", "--out", "new", "--epochs", "0"], "--epochs"),
    "no report": (["report", "R"], "results.json"),
    "no generator": (["apply", "key-R", "toy.npz", "--out", "new"], "key-R: no generator; give KEY/generators/NAME"),
    "no command": (["protects"], "protects"),
    "no key for uge": (["protect", "toy.npz", "--out", "new"], "--key"),
    "set with uge": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--set", "rounds=2"], "--set"),
    "period without stripes": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--start", "misaligned", "--period", "4"],
        "--period: is of --start stripes",
    ),
    "method": (["protect", "toy.npz", "--out", "new", "--method", "lsq"], "did you mean 'lsp'"),
    "option of uge with a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "lsp", "--period", "4"],
        "--period: --method lsp has no use for it",
    ),
    "setting of a baseline": (["protect", "toy.npz", "--out", "new", "--method", "em", "--set", "round=2"], "rounds"),
    "eps 8 with a baseline": (["protect", "toy.npz", "--out", "new", "--method", "em", "--eps", "8"], "8/255"),
    "baseline over a release": (["protect", "toy.npz", "--out", "R", "--method", "lsp"], "--out R"),
}

MISTAKES |= {
    "command of no name": ([], "COMMAND"),
    "demo's seed": (["demo", "--out", "new", "--seed", "one"], "--seed"),
    "demo in a file": (["demo", "--out", "toy.npz"], "toy.npz"),
    "a word too many": (["list", "networks"], "networks"),
    "source not named": (["protect", "--out", "new", "--key", "new-key"], "SOURCE"),
    "out not named": (["protect", "toy.npz", "--key", "new-key"], "--out"),
    "a source of no kind": (["protect", "R/card.json", "--out", "new", "--key", "new-key", *TINY], "card.json"),
    "n-test of all": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--n-test", "60"], "no images"),
    "negative eps": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps=-1/255"], "--eps"),
    "eps by nought": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--eps", "8/0"], "--eps"),
    "norm": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--norm", "l1"], "--norm"),
    "step size": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--step-size", "nan"], "--step-size"),
    "transforms": (["protect", "toy.npz", "--out", "new", "--key", "new-key", "--transforms", "flop"], "--transforms"),
    "log in a folder": (["protect", "toy.npz", "--out", "new", "--key", "new-key", *TINY, "--log-json", "R"], "R: "),
    "log nowhere": (["train", "R", "--key", "key-R", "--out", "new", "--log-json", "no/log"], "no/log: "),
    "scalars in a file": (["attack", "R", "--out", "new", "--tensorboard", "toy.npz"], "toy.npz: cannot be written"),
    "scalars nowhere": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", "--tensorboard", "no/S"],
        "--tensorboard no/S: cannot be written (No such file",
    ),
    "release in a file": (
        ["protect", "toy.npz", "--out", "toy.npz/R", "--method", "lsp", "--set", "block=2"],
        "toy.npz/R",
    ),
    "key in a file": (["protect", "toy.npz", "--out", "new", "--key", "toy.npz/K", *TINY], "toy.npz/K"),
    "evaluation in a file": (["attack", "R", "--out", "toy.npz", "--hackers", "mlp"], "toy.npz"),
    "training in a file": (["train", "R", "--key", "key-R", "--out", "toy.npz"], "toy.npz"),
    "key not named": (["train", "R", "--out", "new"], "--key"),
    "test images that are none": (
        ["train", "R", "--key", "key-R", "--out", "new", "--test", "R/card.json"],
        "card.json",
    ),
    "test images of another size": (["train", "R", "--key", "key-R", "--out", "new", "--test", "digits"], "classes"),
    "distillation": (["evaluate", "R", "--key", "key-R", "--out", "new", "--distillation", "soft"], "--distillation"),
    "seeds": (["evaluate", "R", "--key", "key-R", "--out", "new", "--seeds", "0"], "--seeds"),
    "originals nowhere": (["verify", "R", "--originals", "no-such"], "originals: no-such"),
    "key to verify": (["verify", "R", "--key", "R"], "--key R"),
    "batches of nothing": (["train", "R", "--key", "key-R", "--out", "new", "--batch-size", "0"], "--batch-size"),
    "batches of half an image": (["attack", "R", "--out", "new", "--batch-size", "0.5"], "--batch-size"),
    "batches of a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "lsp", "--batch-size", "8"],
        "--batch-size: --method lsp has no use for it",
    ),
    "smaller batches of a baseline": (
        ["protect", "toy.npz", "--out", "new", "--method", "em", "--auto-batch"],
        "--auto-batch: --method em has no use for it",
    ),
    "passphrase of no key": (["passphrase", "R"], "--key R: holds no key.json"),
    "passphrase not named": (["passphrase", "key-R"], "--new-passphrase-file: name the file"),
    "passphrase that cannot be read": (
        ["passphrase", "key-R", "--new-passphrase-file", "R"],
        "--new-passphrase-file R: cannot be read",
    ),
    "passphrase new and none": (
        ["passphrase", "key-R", "--new-passphrase-file", "R", "--remove"],
        "--remove: not allowed with",
    ),
    "passphrase to remove": (["passphrase", "key-R", "--remove"], "--remove: key key-R has no passphrase"),
    "passphrase that is not asked for": (
        ["train", "R", "--key", "key-R", "--out", "new", "--passphrase-file", "toy.npz"],
        "key key-R has no passphrase",
    ),
    "passphrase for a new key": (
        ["protect", "toy.npz", "--out", "new", "--key", "new-key", *TINY, "--passphrase-file", "no"],
        "--passphrase-file no: cannot be read (No such file",
    ),
    "report of nothing": (["report", "nowhere"], "nowhere/results.json: not there"),
    "report of a file": (["report", "toy.npz"], "toy.npz"),
    "report of two": (["report", "R", "other"], "other"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, made, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(made)
    before = tree(made)
    try:
        code = main(arguments)
    except SystemExit as exit:  # what the parser refuses
        code = exit.code
    output = capfd.readouterr()
    assert code == 2
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("ugejax")
    assert says in output.err
    assert output.out == ""
    assert tree(made) == before


def test_a_mistake_in_a_process_of_its_own(made, tmp_path):
    done = run("protect", "nothing.npz", "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K"), cache=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "nothing.npz" in done.stderr
    assert not any(tmp_path.iterdir())


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_text(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def change_one_bit(folder: Path) -> None:
    """Of the largest file, where the values are."""
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


EVALUATE = ["evaluate", "R", "--key", "key-R", "--out", "new", "--hackers", "mlp"]
TRAIN = ["train", "R", "--key", "key-R", "--out", "new"]
DAMAGE = {
    "source cut off": (lambda: cut_off(Path("toy.npz")), ["protect", "toy.npz", "--out", "new", "--method", "lsp"]),
    "images cut off": (lambda: cut_off(Path("R/data.npz")), EVALUATE),
    "images cut off, train": (lambda: cut_off(Path("R/data.npz")), TRAIN),
    "images cut off, attack": (lambda: cut_off(Path("R/data.npz")), ["attack", "R", "--out", "new"]),
    "images cut off, protect": (lambda: cut_off(Path("R/data.npz")), ["protect", "toy.npz", "--out", "R", *TINY]),
    "one bit of the images": (lambda: change_one_bit(Path("R")), EVALUATE),
    "manifest cut off": (lambda: cut_off(Path("R/manifest.csv")), TRAIN),
    "manifest gone": (lambda: Path("R/manifest.csv").unlink(), EVALUATE),
    "card cut off": (lambda: cut_off(Path("R/card.json")), EVALUATE),
    "card without eps": (lambda: change_text(Path("R/card.json"), '"eps"', '"epsilon"'), EVALUATE),
    "card of another source": (lambda: change_text(Path("R/card.json"), "toy.npz", "no.npz"), EVALUATE),
    "key cut off": (lambda: cut_off(Path("key-R/key.json")), TRAIN),
    "key changed": (lambda: change_text(Path("key-R/key.json"), '"form": "keyed-dither"', '"form": "plain"'), TRAIN),
    "key's network gone": (lambda: shutil.rmtree("key-R/network"), TRAIN),
    "one bit of the key's network": (lambda: change_one_bit(Path("key-R/network")), TRAIN),
    "results cut off": (lambda: Path("R/results.json").write_text('{"rows": ['), ["report", "R"]),
    "results of something else": (lambda: Path("R/results.json").write_text('{"rows": 1}'), ["report", "R"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_one_line_that_names_it(name, place, monkeypatch, capfd):
    damage, arguments = DAMAGE[name]
    monkeypatch.chdir(place)
    damage()
    before = tree(place)
    if arguments[0] == "protect" and "--method" not in arguments:
        arguments = [*arguments, "--key", "key-R"]
    assert main(arguments) == 2
    output = capfd.readouterr()
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith(f"ugejax {arguments[0]}: ")
    assert output.out == ""
    assert tree(place) == before


def test_a_training_goes_on_where_its_damaged_checkpoint_was_removed(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    assert main([*TRAIN, "--epochs", "1"]) == 0
    (checkpoint,) = Path("new").glob("checkpoints-*/1")
    results = Path("new/results.json").read_text()
    change_one_bit(checkpoint)
    capfd.readouterr()
    assert main([*TRAIN, "--epochs", "1"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"{checkpoint}: the checkpoint is damaged" in error
    shutil.rmtree(checkpoint)
    assert main([*TRAIN, "--epochs", "1"]) == 0
    assert Path("new/results.json").read_text() == results


def test_every_command_is_given_something_wrong():
    from test_cli_arena import MISTAKES as ARENA
    from test_cli_exchange import MISTAKES as EXCHANGE

    from ugejax.cli.arguments import build_parser

    given = [arguments for arguments, _ in [*MISTAKES.values(), *EXCHANGE.values()] if arguments]
    commands = set(re.findall(r"^    (\w+) ", build_parser().format_help(), flags=re.MULTILINE))
    assert {"protect", "arena", "report"} <= commands
    assert commands <= {arguments[0] for arguments in given} | {"arena"}
    assert len(given) + len(ARENA) >= 60
