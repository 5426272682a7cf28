"""`ugejax import` and `ugejax export` as people call them: what they leave behind, and one line for a mistake."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from exchange_examples import live_pickles, torch_archive, torch_file
from PIL import Image

from ugejax.app.cli import main
from ugejax.app.exchange import EXCHANGE_FORMS
from ugejax.app.files import published

LABELS = np.arange(60) % 3
ENDINGS = {"png": "", "hf": "", "npz": ".npz", "npy": "", "emn": ".pt", "emn-class": "-class.pt", "rem": ".pkl"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every path below a folder, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Originals, their protected set in every form, releases of it and of a stronger one, and much that is wrong."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    originals = rng.integers(100, 120, (60, 8, 8, 1))
    for k in range(3):
        originals[k == LABELS, 3 * k : 3 * k + 2] += 100
    noise = rng.integers(-8, 9, (3, 1, 8, 8))[LABELS]
    images = (originals + noise.transpose(0, 2, 3, 1)).astype(np.uint8)
    originals = originals.astype(np.uint8)
    before = Path.cwd()
    os.chdir(folder)  # so that cards and messages have the names that people would write
    try:
        np.savez("toy.npz", data=originals, targets=LABELS)
        np.savez("set.npz", data=images, targets=LABELS)
        np.savez("few.npz", data=originals[:30], targets=LABELS[:30])
        np.savez("wide.npz", data=np.repeat(originals, 2, axis=2), targets=LABELS)
        np.savez("relabelled.npz", data=images, targets=LABELS[::-1])
        np.savez("shuffled.npz", data=images[rng.permutation(60)])
        np.savez("black.npz", data=np.where((LABELS == 2)[:, None, None, None], 0, images), targets=LABELS)
        strong = originals.copy()
        strong[:, 7, 7] = 255 * (originals[:, 7, 7] < 128)  # by more than 127, and not by the same in each class
        strong[::2, 4, 4] += 1
        np.savez("strong.npz", data=strong, targets=LABELS)
        np.save("images.npy", images / 255)
        Path("set.pt").write_bytes(torch_file((noise / 255).astype(np.float32)))
        Path("set-class.pt").write_bytes(torch_file((noise[:3] / 255).astype(np.float32), legacy=True))
        Path("nan.pt").write_bytes(torch_file(np.full_like(noise, np.nan, np.float32)))
        Path("levels.pt").write_bytes(torch_file(noise.astype(np.float32)))
        Path("zero.pkl").write_bytes(pickle.dumps(np.zeros((60, 1, 8, 8), np.int8)))
        Path("set.pkl").write_bytes(pickle.dumps(noise.astype(np.int8)))
        Path("evil.pkl").write_bytes(live_pickles(folder / "ran")["os.system"])
        Path("evil.pt").write_bytes(torch_archive(live_pickles(folder / "ran")["eval"], b""))
        Path("labels.txt").write_text("\n".join(map(str, LABELS)))
        Path("wrong.txt").write_text("\n".join(map(str, LABELS[::-1])))
        Path("words.txt").write_text("cat\ndog\n")
        for name in ("png", "jpeg"):
            Path(name).mkdir()
            for index, image in enumerate(images[..., 0]):
                Image.fromarray(image).save(Path(name) / f"{index}.png", name)
        shutil.copytree("png", "hf/train")
        shutil.copytree("png", "hfless/train")
        rows = [f"{index}.png,{label}\n" for index, label in enumerate(LABELS)]
        Path("hf/train/metadata.csv").write_text("".join(["file_name,label\n", *rows]))
        assert main(["import", "npz", "set.npz", "--originals", "toy.npz", "--n-test", "12", "--out", "R"]) == 0
        assert main(["import", "npz", "strong.npz", "--originals", "toy.npz", "--out", "strong"]) == 0
        shutil.copytree("R", "damaged")
        Path("damaged/manifest.csv").write_text("")
        Path("empty").mkdir()
        Path("moved.npz").write_bytes(Path("toy.npz").read_bytes())
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def place(made, monkeypatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_import(kind, place, tmp_path, capsys):
    source = {"png": "png", "hf": "hf", "npy": "images.npy"}.get(kind, f"set{ENDINGS[kind]}")
    command = ["import", kind, source, "--originals", "toy.npz", "--labels", "labels.txt", "--out", str(tmp_path / "R")]
    assert main(command) == 0
    assert "60 images, at most 8 grey levels from their originals, PSNR" in capsys.readouterr().out
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert (card["method"], card["imported"]["kind"], card["eps"]) == ("imported", kind, 8 / 255)
    assert card["realised_eps"]["linf_levels"] == 8
    assert any("measured, not a budget that was declared" in limit for limit in card["limits"])
    if kind not in ("png", "hf"):
        assert card["imported"]["sha256"] == {source: hashlib.sha256(Path(source).read_bytes()).hexdigest()}
    with np.load(tmp_path / "R" / "data.npz") as found, np.load("set.npz") as expected:
        np.testing.assert_array_equal(found["data"], expected["data"])
        np.testing.assert_array_equal(found["targets"], LABELS)
    assert main(["verify", str(tmp_path / "R"), "--originals", "card"]) == 0
    before = tree(tmp_path)
    capsys.readouterr()
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_there_and_back(kind, place, tmp_path, capsys):
    out, back = str(tmp_path / "deep" / f"set{ENDINGS[kind]}"), str(tmp_path / "back")
    assert main(["export", "R", kind, "--out", out]) == 0
    assert capsys.readouterr().out == f"{out}: 48 images as {kind}\n"
    assert main(["import", kind, out, "--originals", "toy.npz", "--n-test", "12", "--out", back]) == 0
    assert (tmp_path / "back" / "data.npz").read_bytes() == (place / "R" / "data.npz").read_bytes()
    assert (tmp_path / "back" / "manifest.csv").read_bytes() == (place / "R" / "manifest.csv").read_bytes()
    # The same release gives the same bytes.
    assert main(["export", "R", kind, "--out", f"{tmp_path / 'again'}"]) == 0
    written = tmp_path / "deep" / f"set{ENDINGS[kind]}"
    if written.is_file():
        assert (tmp_path / "again").read_bytes() == written.read_bytes()
    else:
        assert tree(tmp_path / "again") == tree(written)


def test_the_images_of_a_subset_are_taken_out_of_the_whole_set(place, tmp_path):
    subset = ["--n-train", "21", "--n-test", "9", "--seed", "5"]
    assert main(["import", "npz", "set.npz", "--originals", "toy.npz", *subset, "--out", str(tmp_path / "R")]) == 0
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert (card["n"], card["n_test"], card["realised_eps"]["linf_levels"]) == (21, 9, 8)
    assert main(["verify", str(tmp_path / "R"), "--originals", "card"]) == 0


def test_an_imported_release_is_attacked_like_any_other(place, tmp_path):
    assert main(["attack", "R", "--out", str(tmp_path / "A"), "--hackers", "mlp", "--epochs", "1"]) == 0
    results = json.loads((tmp_path / "A" / "results.json").read_text())
    assert (results["n_train"], results["n_test"], results["realised_linf"]) == (48, 12, 8)
    assert [(row["role"], row["network"]) for row in results["rows"]] == [("hacker", "mlp")]


def test_list_names_the_forms(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(f"│ {kind} " in said for kind in EXCHANGE_FORMS)


def test_export_takes_originals_that_have_moved(place, tmp_path):
    release = shutil.copytree("R", tmp_path / "R")
    card = json.loads((release / "card.json").read_text())
    card["source"]["name"] = "gone.npz"
    (release / "card.json").write_text(json.dumps(card))
    assert main(["export", str(release), "rem", "--out", str(tmp_path / "x.pkl")]) == 2
    assert main(["export", str(release), "rem", "--originals", "moved.npz", "--out", str(tmp_path / "x.pkl")]) == 0
    # Whole images need no originals.
    assert main(["export", str(release), "npz", "--out", str(tmp_path / "x.npz")]) == 0


IMPORT = ["import", "npz", "set.npz", "--originals", "toy.npz", "--out", "new"]
EXPORT = ["export", "R", "npz", "--out", "new"]


def change(command: list[str], **changes: str) -> list[str]:
    """A command with some of its words replaced; `more` is added."""
    more = changes.pop("more", "").split()
    return [changes.get(word.strip("-").replace(".", "_"), word) for word in command] + more


MISTAKES = {
    "kind": (change(IMPORT, npz="npzz"), "KIND: unknown 'npzz': did you mean 'npz'"),
    "no file": (change(IMPORT, set_npz="no.npz"), "no.npz: no such file"),
    "a folder": (change(IMPORT, set_npz="png"), "png: a folder; give a file"),
    "another kind of file": (change(IMPORT, npz="emn"), "set.npz: not a whole file of torch.save"),
    "a file for a folder": (change(IMPORT, npz="png"), "set.npz: not a directory; give a folder with 0.png"),
    "text": (change(IMPORT, set_npz="labels.txt"), "labels.txt: not a whole NumPy file"),
    "no originals there": (change(IMPORT, toy_npz="no-such"), "no-such: no such file or folder"),
    "originals not named": (IMPORT[:3] + IMPORT[5:], "--originals"),
    "out not named": (IMPORT[:-2], "--out"),
    "too few originals": (
        change(IMPORT, toy_npz="few.npz"),
        "set.npz, array 'data': [60, 8, 8, 1] is larger than these originals allow",
    ),
    "too many originals": (change(IMPORT, set_npz="few.npz"), "few.npz: made of 30 images, but there are 60 originals"),
    "originals of another size": (change(IMPORT, toy_npz="wide.npz"), "set.npz: images of [8, 8, 1], but their"),
    "originals are the set": (change(IMPORT, toy_npz="set.npz"), "set.npz: these are the originals"),
    "other labels inside": (change(IMPORT, set_npz="relabelled.npz"), "relabelled.npz: 40 labels are not those"),
    "other labels beside": (change(IMPORT, more="--labels wrong.txt"), "wrong.txt: 40 labels are not those"),
    "words for labels": (change(IMPORT, more="--labels words.txt"), "words.txt: not a whole number a line"),
    "no labels there": (change(IMPORT, more="--labels no.txt"), "no.txt: no such file"),
    "labels of no kind": (change(IMPORT, more="--labels toy.npz"), "toy.npz: labels are a .npy, .txt or .csv file"),
    "another order": (change(IMPORT, set_npz="shuffled.npz"), "shuffled.npz: these images are hardly nearer"),
    "a black class": (change(IMPORT, set_npz="black.npz"), "black.npz: 20 images are of one value"),
    "noise NaN": (change(IMPORT, npz="emn", set_npz="nan.pt"), "nan.pt: the noise of image 0 is not finite"),
    "noise in grey levels": (change(IMPORT, npz="emn", set_npz="levels.pt"), "levels.pt: noise of up to 8"),
    "noise of zero": (change(IMPORT, npz="rem", set_npz="zero.pkl"), "zero.pkl: these are the originals, or noise of"),
    "noise a class": (change(IMPORT, npz="emn", set_npz="set-class.pt"), "set-class.pt: one noise a class"),
    "noise an image": (change(IMPORT, npz="emn-class", set_npz="set.pt"), "set.pt: 60 noises for 3 classes"),
    "a pickle that runs": (change(IMPORT, npz="rem", set_npz="evil.pkl"), "evil.pkl: asks for 'posix.system'"),
    "a tensor that runs": (change(IMPORT, npz="emn", set_npz="evil.pt"), "evil.pt: asks for 'builtins.eval'"),
    "JPEG": (change(IMPORT, npz="png", set_npz="jpeg"), "jpeg/0.png: not a PNG file"),
    "no PNG": (change(IMPORT, npz="png", set_npz="empty"), "empty: image 0 is missing"),
    "n-train 0": (change(IMPORT, more="--n-train 0"), "--n-train"),
    "n-train too many": (change(IMPORT, more="--n-train 99"), "99 images were asked for"),
    "n-test too many": (change(IMPORT, more="--n-test 60"), "no images"),
    "image size": (change(IMPORT, more="--image-size 9"), "set.npz: images of [8, 8, 1], but their originals"),
    "seed": (change(IMPORT, more="--seed -1"), "--seed"),
    "data folder": (change(IMPORT, toy_npz="cifar10", more="--data-dir empty"), "empty"),
    "out is another release": (change(IMPORT, new="strong"), "--out strong: holds another release"),
    "out is a folder": (change(IMPORT, new="empty"), "empty/card.json: no such file"),
    "out is a file": (change(IMPORT, new="labels.txt"), "labels.txt"),
    "out in a file": (change(IMPORT, new="labels.txt/new"), "labels.txt/new: cannot be written"),
    "no table of labels": (change(IMPORT, npz="hf", set_npz="hfless"), "hfless/train/metadata.csv: no such file"),
    "export kind": (change(EXPORT, npz="pngs"), "KIND: unknown 'pngs': did you mean 'png'"),
    "no release": (change(EXPORT, R="nowhere"), "nowhere/card.json: no such file"),
    "no release but a set": (change(EXPORT, R="png"), "png/card.json: no such file"),
    "damaged release": (change(EXPORT, R="damaged"), "damaged/manifest.csv: changed since"),
    "export out not named": (EXPORT[:-2], "--out"),
    "export over a file": (change(EXPORT, new="labels.txt"), "labels.txt: --out names an existing"),
    "export over a folder": (change(EXPORT, npz="png", new="empty"), "empty: --out names an existing"),
    "export into a file": (change(EXPORT, new="labels.txt/new"), "labels.txt/new: cannot be written"),
    "export into the release": (change(EXPORT, npz="png", new="R/images"), "--out R/images: lies in a release"),
    "originals for images": (change(EXPORT, more="--originals toy.npz"), "--originals: npz holds whole images"),
    "data folder for images": (change(EXPORT, more="--data-dir empty"), "--data-dir: npz holds whole images"),
    "other originals": (change(EXPORT, npz="emn", more="--originals wide.npz"), "wide.npz: not the originals"),
    "no originals": (change(EXPORT, npz="emn", more="--originals no-such"), "originals: no-such: no such file"),
    "more than int8": (change(EXPORT, R="strong", npz="rem", new="deep/x.pkl"), "60 images differ"),
    "not one a class": (change(EXPORT, R="strong", npz="emn-class", new="deep/x.pt"), "not the same in all images"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, place, capfd):
    arguments, says = MISTAKES[name]
    before = tree(place)
    try:
        code = main(arguments)
    except SystemExit as exit:  # what the parser refuses
        code = exit.code
    output = capfd.readouterr()
    assert code == 2
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith(f"ugejax {arguments[0]}: ")
    assert says in output.err
    assert output.out == ""
    assert tree(place) == before


@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_a_failure_while_writing_leaves_nothing(kind, place, tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device")

    for function in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            assert main(["export", "R", kind, "--out", str(tmp_path / "deep" / "set")]) == 2
        assert "the disk is full" in capfd.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_what_is_whole(tmp_path):
    (tmp_path / ".x.partial").mkdir()
    (tmp_path / ".x.partial" / "left by a killed run").write_text("")
    with published(tmp_path / "x") as partial:
        assert not partial.exists()
        partial.write_text("whole")
        assert not (tmp_path / "x").exists()
    assert tree(tmp_path) == {"x": b"whole"}
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "a" / "b" / "y") as partial:
        partial.mkdir()
        (partial / "half").write_text("")
        raise KeyboardInterrupt
    assert tree(tmp_path) == {"x": b"whole"}
