"""A generator on the command line: it stays with its key, and new images are protected without training."""

import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from cli_examples import PNG, TINY, tree, write_toy

from ugejax.app.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with toy.npz and new.npz of the same classes, a release R and its key key-R with a generator."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    with np.load(write_toy(folder / "new.npz", seed=1)) as data:
        images, labels = data["data"], data["targets"]
    chosen = labels != 1  # today's images show two of the classes, under their names
    names = np.array(["0", "2"])
    np.savez(folder / "new.npz", data=images[chosen], targets=labels[chosen] // 2, class_names=names)
    np.savez(folder / "large.npz", data=np.zeros((2, 12, 12, 1), np.uint8), targets=np.arange(2))
    np.savez(folder / "other.npz", data=images[chosen], targets=labels[chosen] // 2, class_names=np.array(["0", "cat"]))
    command = ["protect", str(folder / "toy.npz"), "--out", str(folder / "R"), "--key", str(folder / "key-R"), *TINY]
    command += ["--parametrisation", "generator", "--transforms", "none", "--perturbation-epochs", "1", "--seed", "0"]
    assert main(command) == 0
    return folder


def generator_of(folder: Path) -> Path:
    (generator,) = (folder / "key-R" / "generators").iterdir()
    return generator


def test_the_generator_stays_with_the_key_and_the_card_says_so(made):
    card = json.loads((made / "R" / "card.json").read_text())
    assert card["settings"]["parametrisation"] == "generator"
    assert any("stored with the key and is as private" in limit for limit in card["limits"])
    assert stat.S_IMODE(os.stat(made / "key-R" / "generators").st_mode) == 0o700
    assert set(tree(made / "R")) == {"data.npz", "card.json", "manifest.csv"}


def test_new_images_are_protected_without_training(made, tmp_path, capsys):
    out = tmp_path / "new"
    command = ["apply", str(generator_of(made)), str(made / "new.npz"), "--out", str(out), "--save-images"]
    before = tree(made / "key-R")
    assert main(command) == 0
    assert tree(made / "key-R") == before
    card = json.loads((out / "card.json").read_text())
    assert card["class_names"] == ["0", "2"]
    assert card["generator"] == generator_of(made).name
    assert (out / "images" / "0.png").read_bytes().startswith(PNG)
    capsys.readouterr()
    assert main(["verify", str(out), "--key", str(made / "key-R"), "--originals", "card"]) == 0
    said = capsys.readouterr().out
    assert "differs by at most 0 grey levels" in said and "FAILED" not in said
    released = tree(out)
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert tree(out) == released

    # Under its name a class has its texture, however the classes of a source are numbered.
    with np.load(made / "new.npz") as data:
        images, targets = data["data"], data["targets"]
    np.savez(tmp_path / "three.npz", data=np.append(images, images[:1], 0), targets=np.append(targets * 2, 1))
    assert main(["apply", str(generator_of(made)), str(tmp_path / "three.npz"), "--out", str(tmp_path / "three")]) == 0
    two, three = (np.load(folder / "data.npz")["data"].astype(int) for folder in (out, tmp_path / "three"))
    moved, again = two - images, three[:-1] - images
    assert (moved != again).any()  # another source has another salt, and so other cells
    assert (moved * again >= 0).all() and (moved * again > 0).mean() > 0.5
    assert ((three[-1] - images[0]) * moved[0] < 0).any()


MISTAKES = {
    "no generator": (["apply", "key-R", "new.npz", "--out", "R2"], "key-R: no generator; give KEY/generators/NAME"),
    "nothing there": (["apply", "nowhere", "new.npz", "--out", "R2"], "nowhere: no generator"),
    "unknown class": (["apply", "G", "other.npz", "--out", "R2"], "class 'cat' is not one of the generator's ('0', "),
    "other size": (["apply", "G", "large.npz", "--out", "R2"], "those of the key (8, 8, 1): give --image-size 8"),
    "out in the key": (["apply", "G", "new.npz", "--out", "key-R/R2"], "the key is private"),
    "other release there": (["apply", "G", "new.npz", "--out", "R"], "--out R: holds another release"),
    "no images": (["apply", "G", "no.npz", "--out", "R2"], "no.npz"),
    "step size": (
        ["protect", "toy.npz", "--out", "R2", "--key", "K", "--parametrisation", "generator", "--step-size", "1"],
        "--step-size: a generator is trained by Adam",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, made, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(made)
    before = tree(made)
    generator = str(generator_of(made).relative_to(made))
    assert main([generator if argument == "G" else argument for argument in arguments]) == 2
    error = capfd.readouterr().err
    assert says in error and error.count("\n") == 1
    assert tree(made) == before


def test_a_damaged_generator_is_refused(made, tmp_path, capsys):
    place = Path(shutil.copytree(made, tmp_path / "place"))
    generator = generator_of(place)
    described = (generator / "generator.json").read_text()
    command = ["apply", str(generator), str(place / "new.npz"), "--out", str(tmp_path / "R2")]
    for content, says in (
        (described[:40], "cannot be read as a generator"),
        (described.replace('"generator"', '"genevator"'), "cannot be read as a generator"),
        (described.replace('"generator"', '"codes"'), "cannot be read as a generator"),
        (described.replace('"period": 14', '"period": "14"'), "cannot be read as a generator"),
        (described.replace('"linf"', '"l3"'), "norm must be one of linf, l2, not 'l3'"),
        (re.sub('"eps": [0-9.]+', '"eps": 8.0', described), "write 8/255 and not 8"),
        (described.replace('"0"', "0"), "cannot be read as a generator"),
        (described.replace('"key_fingerprint": "', '"key_fingerprint": "0'), "was made with another key"),
        (described.replace('"0"', '"0",\n    "3"'), "the checkpoint is"),
    ):
        (generator / "generator.json").write_text(content)
        assert main(command) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "R2").exists()
