"""`ugejax check`, the first lines of `protect`, and what the card says of what is not in the release."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_examples import TINY, protect, tree
from folder_examples import pixels, write_files, write_images
from PIL import Image

from ugejax.app.cli import main
from ugejax.data import Source, load

CLASSES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(12)]


def write_holiday(root: Path) -> Path:
    """24 images of two classes, and all kinds of things beside."""
    write_images(root, *(f"Train/{path}" for path in CLASSES), "Test/cat/0.png", "Test/dog/0.png", "val/cat/0.png")
    write_images(root, "Train/cat/@eaDir/0.png/thumb.jpg", "loose.png")
    write_files(root, "Train/dog/notes.txt")
    Image.fromarray(pixels(8, 8, 3, seed=99)).save(root / "Train" / "dog" / "gif.png", "GIF")
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(root / "Train" / "cat" / "moving.png", save_all=True, append_images=pictures[1:])
    Image.open(root / "Train" / "cat" / "0.png").save(root / "Train" / "dog" / "copy.png")
    return root


@pytest.fixture(scope="module")
def holiday(tmp_path_factory) -> Path:
    return write_holiday(tmp_path_factory.mktemp("made") / "holiday")


def said(capsys, *arguments: str, code: int = 0) -> list[str]:
    assert main(list(arguments)) == code
    return capsys.readouterr().out.splitlines()


def test_check_says_what_would_be_protected_and_what_not(holiday, capsys):
    assert said(capsys, "check", str(holiday))[:-1] == [
        "holiday: image folder, 27 images to protect in 2 classes of 13 (cat) to 14 (dog), 2 test images that are not "
        "released",
        "images: all 8 x 8; 28 PNG, 1 GIF; 28 RGB, 1 P; released as 8 x 8 RGB",
        "train images: Train, 27 images",
        "test images: Test, 2 images",
        "not used: val, of which 1 images are NOT in the release",
        "left out: 1 files of a system, 1 of them images, which are NOT in the release "
        "(Train/cat/@eaDir/0.png/thumb.jpg)",
        "left out: 1 images beside the class folders, 1 of them images, which are NOT in the release (loose.png)",
        "left out: 1 other files (Train/dog/notes.txt)",
        "several pictures in one file: 1 images; the first is taken (Train/cat/moving.png)",
        "of another format than the ending says: 1 (Train/dog/gif.png (GIF))",
        "note: 2 train images are also in another class, with the same pixels, such as Train/cat/0.png and "
        "Train/dog/copy.png",
    ]


def test_check_says_what_it_costs(holiday, capsys):
    cost = said(capsys, "check", str(holiday))[-1]
    assert re.fullmatch(r"the release: 7\.7 kB; with the defaults about \d+ s here and about \S+ [MG]B of memory", cost)


def test_check_as_json(holiday, tmp_path, capsys):
    content = json.loads("\n".join(said(capsys, "check", str(holiday), "--json", "--out", str(tmp_path / "c.json"))))
    assert json.loads((tmp_path / "c.json").read_text()) == content
    assert (content["n_train"], content["n_test"], content["unprotected_images"]) == (27, 2, 3)
    assert content["classes"] == {"cat": 13, "dog": 14}
    assert content["image_shape"] == [8, 8, 3]
    assert content["splits"][2] == {"name": "val", "use": "not used", "images": 1}
    assert content["refused"] == []
    assert content["cost"]["release_bytes"] == 27 * (192 + 94)


def test_check_reads_headers_alone_where_that_is_asked_for(holiday, capsys, monkeypatch):
    def decode(*_, **__):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("ugejax.data.image_file._pixels", decode)
    lines = said(capsys, "check", str(holiday), "--quick")
    assert "headers alone were read: damage behind them and copies were not looked for" in lines
    assert not any("same pixels" in line for line in lines)
    assert "images: all 8 x 8; 28 PNG, 1 GIF; 28 RGB, 1 P; released as 8 x 8 RGB" in lines


def test_check_ends_with_1_where_protect_would_refuse(tmp_path, capsys):
    write_images(tmp_path / "photos", *CLASSES)
    write_images(tmp_path / "photos", "cat/large.png", size=16)
    write_files(tmp_path / "photos", "cat/damaged.jpg", "dog/phone.heic")
    lines = said(capsys, "check", str(tmp_path / "photos"), code=1)
    assert lines[-2:] == [
        "protect refuses this: 2 images cannot be read; mend them, or leave them out with --skip-unreadable",
        "protect refuses this: images of 2 sizes (8 x 8, 16 x 16); give --image-size to make them one",
    ]
    options = ["--skip-unreadable", "--image-size", "8"]
    assert not any("refuses" in line for line in said(capsys, "check", str(tmp_path / "photos"), *options))
    content = json.loads("\n".join(said(capsys, "check", str(tmp_path / "photos"), "--json", code=1)))
    phone, damaged = content["unreadable"]
    assert phone["file"] == f"{tmp_path}/photos/dog/phone.heic"
    assert phone["why"] == "one of the HEIC images, which are not read; convert it to PNG"
    assert damaged["file"] == f"{tmp_path}/photos/cat/damaged.jpg"
    assert damaged["why"].startswith("not a whole image of a kind that is read")
    out, key = str(tmp_path / "R"), str(tmp_path / "K")
    assert main(["protect", str(tmp_path / "photos"), "--out", out, "--key", key, *TINY]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ugejax protect: 2 images cannot be read: ") and error.count("\n") == 1
    assert "with --skip-unreadable; `ugejax check" in error
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_check_says_where_few_images_are_hardly_protected(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", data=pixels(40, 8, 8, 3), targets=np.arange(40) % 20)
    (note,) = [line for line in said(capsys, "check", str(tmp_path / "x.npz")) if line.startswith("note")]
    assert note.startswith("note: half of the 20 classes have at most 2 images: so few are hardly protected")


def test_check_of_arrays_and_digits(tmp_path, capsys):
    images = pixels(24, 8, 8)
    images[3] = images[0]
    np.savez(tmp_path / "x.npz", data=images, targets=np.arange(24) % 2)
    lines = said(capsys, "check", str(tmp_path / "x.npz"))
    assert lines[:2] == [
        "x.npz: .npz archive, 24 images to protect in 2 classes of 12", "images: all 8 x 8; released as 8 x 8 grey"
    ]  # fmt: skip
    assert lines[2] == (
        "note: 2 train images are also in another class, with the same pixels, such as image 0 and image 3"
    )
    assert said(capsys, "check", "digits", "--n-train", "100")[0].startswith(
        "digits: scikit-learn's digits, 100 images"
    )


def test_protect_says_the_same_first_and_counts_in_the_card_what_is_not_in_the_release(holiday, tmp_path, capsys):
    checked = said(capsys, "check", str(holiday))[:-1]
    options = ["--network", "mlp", "--surrogates", "mlp", "--eps", "32/255", "--epochs", "2"]
    out = str(tmp_path / "R")
    lines = said(capsys, "protect", str(holiday), "--out", out, "--key", str(tmp_path / "K"), *options)
    assert lines[: len(checked)] == checked
    assert lines[len(checked)].startswith("the release: 7.7 kB; with the defaults about ")
    assert "3 images of the source are NOT in the release" in lines
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert card["left_out"] == {"files of a system": 1, "images beside the class folders": 1, "other files": 1}
    assert card["unused_splits"] == {"val": 1}
    assert "loose" not in (tmp_path / "R" / "card.json").read_text()
    assert main(["verify", out, "--originals", "card"]) == 0
    assert main(["protect", str(holiday), "--out", out, "--key", str(tmp_path / "K"), *options]) == 0
    assert "nothing to do" in capsys.readouterr().out
    baseline = ["--method", "lsp", "--set", "block=2"]
    lines = said(capsys, "protect", str(holiday), "--out", str(tmp_path / "B"), *baseline)
    assert lines[: len(checked) - 1] == checked[:-1]  # copies are looked for where images are read piece by piece


def test_a_release_of_what_is_whole_says_nothing_of_what_is_left_out(made):
    card = json.loads((made / "R" / "card.json").read_text())
    assert not {"left_out", "unused_splits"} & set(card)
    assert "skip_unreadable" not in card["source"]


def test_a_release_without_what_cannot_be_read_is_evaluated_with_its_own_originals(tmp_path, capsys):
    write_images(tmp_path / "photos", *CLASSES)
    write_files(tmp_path / "photos", "cat/000.png", "dog/phone.heic")
    out, key = str(tmp_path / "R"), str(tmp_path / "K")
    assert main(["protect", str(tmp_path / "photos"), "--out", out, "--key", key, *TINY, "--skip-unreadable"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be read: 2 images, which are NOT in the release: dog/phone.heic" in printed
    assert "2 images of the source are NOT in the release" in printed
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert card["left_out"] == {"images that cannot be read": 2}
    assert card["source"]["skip_unreadable"] is True
    assert main(["verify", out, "--originals", "card"]) == 0


def test_a_release_is_protected_again_only_where_that_is_said(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    again = ["protect", "R/data.npz", "--out", "R2", "--key", "K2", *TINY]
    assert main(again) == 2
    assert "R/data.npz: lies in a release" in capsys.readouterr().err
    assert main([*again, "--again"]) == 0


@pytest.mark.parametrize("command", [["train", "R", "--key", "key-R"], ["attack", "R"], ["apply", "G", "toy.npz"]])
def test_places_are_tried_before_work_begins(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = tree(place)
    assert main([*command, "--out", "/proc/x/out"]) == 2
    error = capsys.readouterr().err
    assert (
        error
        == f"ugejax {command[0]}: --out /proc/x/out: cannot be written (No such file or directory); choose "
        + ("another place\n")
    )
    assert tree(place) == before


def test_a_trial_of_a_place_leaves_nothing(place, monkeypatch):
    monkeypatch.chdir(place)
    assert main([*protect(place, "deep/in/R", "--eps", "8")]) == 2  # refused after the trial
    assert not (place / "deep").exists()


def test_verify_of_what_is_no_release_is_one_line(tmp_path, capfd):
    assert main(["verify", str(tmp_path)]) == 2
    output = capfd.readouterr()
    assert output.err == (
        f"ugejax verify: {tmp_path}: not a release (neither card.json nor data.npz nor manifest.csv is in it)\n"
    )
    assert output.out == ""


def test_verify_says_of_what_kind_a_change_is(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    with np.load("R/data.npz") as data:
        images, labels = data["data"], data["targets"]
    np.savez("R/data.npz", data=images[:-2], targets=labels[:-2])
    assert main(["verify", "R", "--out", "checks.json"]) == 1
    line = "dropped: 2 of 48 images are missing (46, 47)"
    assert capsys.readouterr().out.splitlines()[-1] == f"what was changed: {line}"
    assert json.loads(Path("checks.json").read_text())["change"] == line


def test_check_and_list_do_not_wait_for_jax(holiday):
    script = (
        "import sys; from ugejax.app.cli import main; "
        f"codes = main(['list']), main(['check', {str(holiday)!r}]); sys.exit('jax' in sys.modules or any(codes))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_passphrase_file_of_windows_has_no_mark_in_it(tmp_path):
    from ugejax.app.cli.opening import read_passphrase

    (tmp_path / "secret.txt").write_bytes(b"\xef\xbb\xbfcorrect horse\r\n")
    assert read_passphrase(tmp_path / "secret.txt", "--passphrase-file") == "correct horse"


def test_what_was_read_before_is_read_as_before(tmp_path):
    write_images(tmp_path, *(f"train/{path}" for path in CLASSES), "test/cat/0.png", "test/dog/0.png")
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert splits.account.to_card() == {}
    order = [f"{name}/{i}.png" for name in ("cat", "dog") for i in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)]
    for image, path in zip(splits.train.images, order, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / "train" / path)))
