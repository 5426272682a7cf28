"""Writing and reading releases."""

import csv
import errno
import hashlib
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from release_examples import make_arguments, make_release

from ugejax import __version__
from ugejax.app.release import read_release, verify_release, write_release
from ugejax.app.release import write as write_module
from ugejax.errors import UserError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_holds_what_the_contract_says(tmp_path: Path):
    arguments = make_arguments()
    folder = make_release(tmp_path / "deep" / "release", save_images=True)
    assert set(contents(folder)) == {"card.json", "data.npz", "manifest.csv", *(f"images/{i}.png" for i in range(6))}
    with np.load(folder / "data.npz") as data:
        assert set(data.files) == {"data", "targets"}
        assert data["data"].dtype == np.uint8 and data["targets"].dtype == np.int32
        np.testing.assert_array_equal(data["data"], arguments["images"])
        np.testing.assert_array_equal(data["targets"], arguments["labels"])
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    digest = hashlib.sha256(arguments["images"][5].tobytes()).hexdigest()
    assert rows[5] == {"index": "5", "label": "2", "class_name": "kühe", "sha256": digest}
    assert rows[1]["class_name"] == "dog, small"
    with Image.open(folder / "images" / "3.png") as image:
        np.testing.assert_array_equal(np.asarray(image), arguments["images"][3])


def test_no_class_name_is_a_formula_in_the_table_of_images(tmp_path: Path):
    names = ("=1+1", '@SUM("A1")', "-1")
    folder = make_release(tmp_path / "release", class_names=names)
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows[:3]] == ["'=1+1", '\'@SUM("A1")', "'-1"]
    assert read_release(folder).class_names == names
    assert not [check for check in verify_release(folder) if not check.ok]
    # Releases of before have them as they are.
    card, manifest = json.loads((folder / "card.json").read_text()), (folder / "manifest.csv").read_bytes()
    (folder / "manifest.csv").write_bytes(manifest.replace(b"'=1", b"=1").replace(b"'-1", b"-1"))
    card["sha256"]["manifest.csv"] = hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    assert not [check for check in verify_release(folder) if not check.ok]


def test_the_card_adds_what_was_measured(tmp_path: Path):
    folder = make_release(tmp_path / "release")
    text = (folder / "card.json").read_text(encoding="utf-8")
    card = json.loads(text)
    assert text == json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert card["method"] == "uge" and card["eps"] == 8 / 255
    assert card["n"] == 6 and card["image_shape"] == [8, 8, 3] and card["class_names"] == ["cat", "dog, small", "kühe"]
    assert card["realised_eps"]["linf_levels"] == 8 and card["realised_eps"]["linf"] == 8 / 255
    change = (make_arguments()["images"] / 255 - make_arguments()["originals"] / 255).reshape(6, -1)
    assert card["realised_eps"]["l2_max"] == pytest.approx(np.linalg.norm(change, axis=1).max())
    assert card["psnr"]["min"] <= card["psnr"]["mean"] and card["ssim"]["min"] <= card["ssim"]["mean"] < 1
    assert set(card["versions"]) == {"ugejax", "jax", "numpy"} and card["versions"]["ugejax"] == __version__
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert set(card["sha256"]) == {"data.npz", "manifest.csv"}


def test_equal_content_gives_equal_bytes_at_any_time(tmp_path: Path, monkeypatch):
    first = contents(make_release(tmp_path / "first", save_images=True))
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2_000_000_000))
    assert contents(make_release(tmp_path / "second", save_images=True)) == first
    with zipfile.ZipFile(tmp_path / "first" / "data.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("channels", [1, 3])
def test_reading_gives_back_what_was_written(tmp_path: Path, channels):
    changes = {name: make_arguments()[name][..., :channels] for name in ("images", "originals")}
    release = read_release(make_release(tmp_path / "release", save_images=True, **changes))
    np.testing.assert_array_equal(release.images, changes["images"])
    np.testing.assert_array_equal(release.labels, make_arguments()["labels"])
    assert release.class_names == make_arguments()["class_names"]
    assert release.card["method"] == "uge"


def test_labels_of_another_integer_type_become_int32(tmp_path: Path):
    folder = make_release(tmp_path / "release", labels=make_arguments()["labels"].astype(np.int64))
    assert read_release(folder).labels.dtype == np.int32


def test_an_existing_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "release").mkdir()
    with pytest.raises(UserError, match="`out` names an existing"):
        make_release(tmp_path / "release")
    assert list(tmp_path.rglob("*")) == [tmp_path / "release"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("function", ["fsync", "rename", "sync", "mkdir"])
def test_a_failure_at_any_point_leaves_nothing(tmp_path: Path, monkeypatch, code, function):
    real, calls = getattr(os, function), []

    def fail_the_second_time(*args, **kwargs):
        calls.append(args)
        # Renaming and syncing happen once; of the others the first call succeeds, so that something is there.
        if function in ("rename", "sync") or len(calls) == 2:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, function, fail_the_second_time)
    expected = {errno.ENOSPC: "disk is full", errno.EACCES: "no permission"}.get(code, "cannot be written")
    with pytest.raises(UserError, match=expected) as caught:
        make_release(tmp_path / "release", save_images=True)
    assert calls and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write_module, "write_images", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_release(tmp_path / "release", save_images=True)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_replaced(tmp_path: Path):
    left = tmp_path / ".release.partial"
    left.mkdir()
    (left / "data.npz").write_text("half")
    (left / "other").write_text("half")
    assert set(contents(make_release(tmp_path / "release"))) == {"card.json", "data.npz", "manifest.csv"}
    assert not left.exists()


def test_a_parent_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_release(tmp_path / "file" / "release")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": make_arguments()["images"] / 255}, "float64"),
        ({"images": np.full((6, 8, 8, 3), np.nan)}, "uint8"),
        ({"labels": np.array([0, 1, 2])}, "6 images"),
        ({"labels": np.array([0, 1, 2, 0, 1, 3])}, "\\[0, 2\\]"),
        ({"labels": np.array([0, 1, 2, 0, 1, 2.0])}, "integers"),
        ({"originals": make_arguments()["originals"][:5]}, "originals"),
        ({"originals": make_arguments()["originals"] / 255}, "originals"),
    ],
)
def test_what_is_not_fit_is_refused_before_anything_is_written(tmp_path: Path, changes, message):
    with pytest.raises(UserError, match=message):
        make_release(tmp_path / "release", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("card", [{"loss": float("nan")}, {"loss": float("inf")}, {"n": 3}, {"sha256": {}}])
def test_cards_that_are_not_strict_json_or_forestall_a_figure(tmp_path: Path, card):
    with pytest.raises(ValueError):
        make_release(tmp_path / "release", card=card)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["card.json", "data.npz", "manifest.csv"])
def test_missing_parts_are_named(tmp_path: Path, name):
    folder = make_release(tmp_path / "release")
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        read_release(folder)


@pytest.mark.parametrize("name", ["data.npz", "manifest.csv"])
def test_changed_parts_are_named(tmp_path: Path, name):
    folder = make_release(tmp_path / "release")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: changed since"):
        read_release(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"class_names": "ab"}',
        '{"class_names": [1]}',
        '{"class_names": [], "x": NaN}',
        "[" * 100_000,
    ],
)
def test_cards_that_are_no_card(tmp_path: Path, text):
    folder = make_release(tmp_path / "release")
    (folder / "card.json").write_text(text)
    with pytest.raises(UserError, match="card.json: "):
        read_release(folder)


def test_writing_needs_keywords():
    with pytest.raises(TypeError):
        write_release("x", None)  # pyright: ignore
