"""Verifying releases: a sound one passes, each kind of damage fails the check that is about it."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from release_examples import SECRET, failed, make_arguments, make_originals, make_release

from ugejax.app.release import verify_release
from ugejax.data import Dataset
from ugejax.errors import UserError


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release", save_images=True)


def change_card(folder: Path, **changes) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def rewrite_data(folder: Path, *, sign: bool = True, **changes: np.ndarray) -> None:
    """Replaces arrays of data.npz, and its hash in the card, as a forger would."""
    with np.load(folder / "data.npz") as data:
        arrays = {name: data[name] for name in data.files}
    np.savez(folder / "data.npz", **{**arrays, **changes})
    if sign:
        resign(folder, "data.npz")


def resign(folder: Path, name: str) -> None:
    hashes = json.loads((folder / "card.json").read_text())["sha256"]
    change_card(folder, sha256={**hashes, name: hashlib.sha256((folder / name).read_bytes()).hexdigest()})


def test_a_sound_release_passes(release: Path, tmp_path: Path):
    checks = verify_release(release, originals=make_originals(), key_fingerprint="abc123", key_secrets=[SECRET])
    assert [check.name for check in checks if not check.ok] == []
    assert {check.name for check in checks} >= {"files", "realised eps", "original labels", "key fingerprint"}
    assert all(check.ok for check in verify_release(release))
    assert all(check.ok for check in verify_release(make_release(tmp_path / "without_images")))


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        verify_release(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["card.json", "data.npz", "manifest.csv", "images/2.png"])
def test_a_missing_file_is_found(release: Path, name):
    (release / name).unlink()
    assert "files" in failed(release)


@pytest.mark.parametrize("name", ["notes.txt", "images/6.png", "images/02.png", ".hidden", "images/sub/0.png"])
def test_an_unexpected_file_is_found(release: Path, name):
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text("hello")
    assert "files" in failed(release)


def test_links_and_pipes_are_found_and_not_followed(release: Path, tmp_path: Path):
    shutil.move(release / "data.npz", tmp_path / "data.npz")
    (release / "data.npz").symlink_to(tmp_path / "data.npz")
    assert {"files", "data.npz hash", "images"} <= failed(release)
    (release / "data.npz").unlink()
    os.mkfifo(release / "data.npz")
    assert {"files", "data.npz hash", "images"} <= failed(release)


def test_a_folder_in_place_of_a_file(release: Path):
    (release / "manifest.csv").unlink()
    (release / "manifest.csv").mkdir()
    assert {"files", "manifest.csv hash", "labels"} <= failed(release)


def test_changed_pixels_are_found_by_each_hash(release: Path):
    images = make_arguments()["images"].copy()
    images[3, 2, 2, 1] ^= 1
    rewrite_data(release, data=images, sign=False)
    assert {"data.npz hash", "pixel hashes", "image files"} <= failed(release)
    rewrite_data(release, data=images)
    assert failed(release, originals=None) == {"pixel hashes", "image files"}


def test_a_changed_manifest_is_found(release: Path):
    text = (release / "manifest.csv").read_text()
    (release / "manifest.csv").write_text(text.replace("0,0,cat", "0,1,cat"))
    assert failed(release) == {"manifest.csv hash", "labels"}
    resign(release, "manifest.csv")
    assert failed(release) == {"labels"}


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "index,label,class_name,sha256\n1,2\n", 'index,label,class_name,sha256\n"']
)
def test_a_manifest_that_is_none(release: Path, text):
    (release / "manifest.csv").write_text(text)
    assert {"manifest.csv hash", "labels", "pixel hashes"} <= failed(release)


def test_changed_labels_are_found(release: Path):
    rewrite_data(release, targets=np.array([1, 0, 2, 0, 1, 2], np.int32))
    assert failed(release) == {"labels", "original labels"}
    rewrite_data(release, targets=np.array([9, 0, 2, 0, 1, 2], np.int32))
    assert {"images", "labels", "original labels"} <= failed(release)


@pytest.mark.parametrize(
    "arrays",
    [
        {"data": make_arguments()["images"] / 255},
        {"data": np.full((6, 8, 8, 3), np.nan)},
        {"targets": np.zeros(6)},
        {"targets": np.zeros(5, np.int32)},
        {"data": np.zeros((6, 8), np.uint8)},
        {"extra": np.zeros(3)},
    ],
)
def test_arrays_of_another_kind_are_found(release: Path, arrays):
    rewrite_data(release, **arrays)
    assert {"images", "labels", "pixel hashes"} <= failed(release)


def test_pickles_are_never_loaded(release: Path, tmp_path: Path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Payload()], object), allow_pickle=True)
    with zipfile.ZipFile(release / "data.npz", "w") as archive:
        archive.writestr("data.npy", buffer.getvalue())
        archive.writestr("targets.npy", pickle.dumps(Payload()))
    resign(release, "data.npz")
    assert {"images", "labels"} <= failed(release)
    assert not (tmp_path / "executed").exists()


def test_a_compressed_archive_is_refused_unread(release: Path):
    with np.load(release / "data.npz") as data:
        arrays = {name: data[name] for name in data.files}
    np.savez_compressed(release / "data.npz", **arrays)
    resign(release, "data.npz")
    assert "images" in failed(release)


def test_the_count_and_shape_in_the_card_are_compared(release: Path):
    change_card(release, n=7)
    assert failed(release) == {"images"}
    change_card(release, n=6, image_shape=[8, 8, 1])
    assert failed(release) == {"images"}


def test_image_files_must_be_the_images(release: Path):
    path = release / "images" / "4.png"
    kept = path.read_bytes()
    with Image.open(path) as image:
        pixels = np.asarray(image).copy()
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "hidden", zip=True)
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    damages: list[Callable[[], object]] = [
        lambda: Image.fromarray(changed).save(path),
        lambda: Image.fromarray(pixels).save(path, pnginfo=note),
        lambda: Image.fromarray(pixels[:4]).save(path),
        lambda: Image.fromarray(pixels).save(path, "JPEG"),
        lambda: path.write_bytes(kept + b"more"),
        lambda: path.write_bytes(kept[:-20]),
        lambda: path.write_bytes(b""),
    ]
    for damage in damages:
        damage()
        assert failed(release) == {"image files"}
    path.write_bytes(kept)
    assert failed(release) == set()


def test_a_constant_image_is_found_unless_its_original_was_one(tmp_path: Path):
    arguments = make_arguments()
    images, originals = arguments["images"].copy(), arguments["originals"].copy()
    images[2] = originals[2] = 100
    folder = make_release(tmp_path / "release", images=images, originals=originals)
    assert failed(folder, originals=None) == {"constant images"}
    assert failed(folder, originals=dataclasses.replace(make_originals(), images=originals)) == set()
    originals[2, 0, 0] = 101
    assert "constant images" in failed(folder, originals=dataclasses.replace(make_originals(), images=originals))


def test_more_change_than_declared_is_found(tmp_path: Path):
    card = make_arguments()["card"]
    folder = make_release(tmp_path / "linf", card={**card, "eps": 7.9 / 255})
    assert failed(folder) == {"declared eps", "realised eps"}
    folder = make_release(tmp_path / "l2", card={**card, "eps": 0.1, "norm": "l2"})
    assert failed(folder) == {"declared eps", "realised eps"}
    folder = make_release(tmp_path / "l2_within", card={**card, "eps": 0.5, "norm": "l2"})
    assert failed(folder) == set()


def test_a_card_that_understates_the_change_is_found(release: Path):
    change_card(release, realised_eps={"linf_levels": 4, "linf": 4 / 255, "l2_max": 0.1})
    assert failed(release) == {"realised eps"}


@pytest.mark.parametrize(
    "changes",
    [
        {"eps": "8/255"},
        {"eps": None},
        {"eps": True},
        {"eps": 10**400},
        {"norm": "l1"},
        {"norm": []},
        {"realised_eps": 3},
        {"realised_eps": {"linf_levels": 10**400, "linf": 0, "l2_max": 0}},
        {"realised_eps": {"linf_levels": "8"}},
    ],
)
def test_eps_that_is_no_number_is_found(release: Path, changes):
    change_card(release, **changes)
    assert "declared eps" in failed(release)


def test_other_originals_are_found(release: Path):
    originals = make_originals()
    shifted = dataclasses.replace(originals, images=np.roll(originals.images, 1, axis=0))
    assert "realised eps" in failed(release, originals=shifted)
    fewer = Dataset(originals.images[:5], originals.labels[:5], originals.class_names)
    assert {"original labels", "realised eps", "constant images"} <= failed(release, originals=fewer)
    renamed = dataclasses.replace(originals, class_names=("a", "b", "c"))
    assert failed(release, originals=renamed) == {"original labels"}


def test_another_key_is_found(release: Path):
    assert failed(release, key_fingerprint="abc124") == {"key fingerprint"}
    change_card(release, key_fingerprint=None)
    assert failed(release) == {"key fingerprint"}


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_no_damage_gives_a_traceback_or_passes(tmp_path_factory, data):
    base = tmp_path_factory.getbasetemp()
    sound, folder = base / "sound", base / "damaged"
    if not sound.exists():
        make_release(sound, save_images=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    path = folder / data.draw(st.sampled_from(["card.json", "data.npz", "manifest.csv", "images/1.png"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    unchanged = damaged == path.read_bytes()
    path.write_bytes(damaged)
    if path.name in ("data.npz", "manifest.csv") and data.draw(st.booleans()):
        resign(folder, path.name)
    found = failed(folder)
    if path.name in ("data.npz", "manifest.csv") and not unchanged and not found:
        # A forger may rewrite what says the same: a time in the archive, a line ending in the table.
        assert json.loads((folder / "card.json").read_text()) != json.loads((sound / "card.json").read_text())
