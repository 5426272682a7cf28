"""Folders as people have them: nothing is read as what it is not, and nothing is left unprotected without a word."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from folder_examples import pixels, write_files, write_images
from PIL import Image

from ugejax.data import Source, load, load_stream
from ugejax.data.account import Account, LeftOut
from ugejax.data.image_file import Unreadable, decode_image, look_at
from ugejax.data.kinds import READABLE
from ugejax.errors import UserError


def refusal(root: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(Source(str(root), **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def splits_of(account: Account) -> dict[str, tuple[str, int]]:
    return {split.name: (split.use, split.images) for split in account.splits}


def left_out(account: Account) -> dict[str, tuple[int, int]]:
    return {kind.kind: (kind.files, kind.images) for kind in account.left_out}


CLASSES = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")


def below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names or CLASSES)


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("test", ["Test", "testing", "VAL", "valid", "Validation", "eval"])
def test_splits_are_known_in_any_case_and_by_the_usual_names(tmp_path, train, test):
    write_images(tmp_path, *below(train), *below(test))
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert splits.train.class_names == splits.test.class_names == ("cat", "dog")
    assert len(splits.train.images) == len(splits.test.images) == 4
    assert splits_of(splits.account) == {train: ("train", 4), test: ("test", 4)}
    assert splits.account.unprotected == 0


def test_of_several_test_splits_all_are_told_of(tmp_path):
    write_images(tmp_path, *below("train"), *below("val"), *below("test", "cat/0.png", "dog/0.png", "dog/1.gif"))
    write_images(tmp_path, "extra/0.png", "extra/deep/1.png")
    write_files(tmp_path, "docs/readme.txt")
    account = load(Source(str(tmp_path))).account
    assert splits_of(account) == {
        "train": ("train", 4), "test": ("test", 3), "val": ("not used", 4), "docs": ("not used", 0),
        "extra": ("not used", 2),
    }  # fmt: skip
    assert account.unprotected == 6
    assert account.to_card() == {"unused_splits": {"val": 4, "docs": 0, "extra": 2}}


def test_a_split_that_cannot_be_used_gives_way_to_one_that_can(tmp_path):
    write_images(tmp_path, *below("train"), *below("test", "0.png", "1.png"), *below("valid"))
    assert splits_of(load(Source(str(tmp_path))).account) == {
        "train": ("train", 4), "valid": ("test", 4), "test": ("not used", 2)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (("train/0.png", "test/0.png"), "train: no class folders in it"),
        (("Training/images/0.png", "Testing/images/0.png"), "Training: no class folders in it"),
        (below("test") + below("val"), "test/, val/: named like test images, but nothing is named like train images"),
        (below("test"), "nothing is named like train images"),
        ((*CLASSES, *below("test")), "nothing is named like train images"),
        (below("train") + below("training"), "train/, training/: which of them holds the train images?"),
        (below("train") + below("Train"), "Train/, train/, which are one split"),
        (below("cat", "train/0.png", "test/0.png") + below("dog", "train/0.png"), "splits must lie above classes"),
        (below("data/train") + below("data/test"), "all is in data/, which holds splits; name"),
        (below("train/train") + below("train/test"), "train: holds test/, train/, which are named like splits"),
        (below("train") + ("car/0.png", "bus/0.png"), "train/ could be a class beside bus/, car/, or hold classes"),
        (("cat/0.png", "dog/0.png", "test/0.png"), "test/ could be a class beside cat/, dog/, or hold test images"),
        (("images/0.png", "masks/0.png"), "are named for what is in them"),
        (below("train") + ("test/0.png",), "test: no class folders in it, so nobody knows what its images show"),
    ],
)
def test_what_could_be_two_things_is_refused_with_what_was_found(tmp_path, paths, says):
    write_images(tmp_path, *paths)
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (("train/0.png", "car/0.png", "bus/0.png"), ("bus", "car", "train")),
        (("test/0.png", "control/0.png"), ("control", "test")),
        (("valid/0.png", "invalid/0.png"), ("invalid", "valid")),
        (("train/images/0.png", "car/images/0.png"), ("car", "train")),
        (("cat/persian/0.png", "cat/0.png", "dog/1.png"), ("cat", "dog")),
    ],
)
def test_a_class_may_have_the_name_of_a_split_where_nothing_else_can_be_meant(tmp_path, paths, classes):
    write_images(tmp_path, *paths)
    splits = load(Source(str(tmp_path)))
    assert splits.train.class_names == classes
    assert splits.test is None
    named = [name for name in classes if name in ("train", "test", "valid")]
    assert list(splits.account.warnings) == [f"the folder {name} is taken for a class" for name in named]


def test_classes_that_have_the_same_folders_in_them_are_told_of(tmp_path):
    write_images(tmp_path, *below("fold1"), *below("fold2"))
    (line,) = load(Source(str(tmp_path))).account.warnings
    assert "each class has the same folders in it (cat, dog)" in line


def test_every_file_that_is_not_taken_is_told_of_by_kind(tmp_path):
    write_images(tmp_path, *CLASSES, "cat/2.tif", "cat/3.gif", "cat/4.jfif", "cat/5.avif", "cat/6.ppm", "loose.png")
    write_images(tmp_path, "cat/.hidden.png", "dog/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/x.jpg")
    write_images(tmp_path, "cat/.@__thumb/0.jpg", "$RECYCLE.BIN/0.png", ".ipynb_checkpoints/0.png")
    write_files(tmp_path, "cat/Thumbs.db", "dog/desktop.ini", "notes.txt", "dog/clip.mp4", "dog/more.zip", "dog/x.fun")
    (tmp_path / "lost+found").mkdir()
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "cat" / "9.bak", "PNG")
    Image.fromarray(pixels(8, 8, 3, seed=1)).save(tmp_path / "dog" / "without", "PNG")
    splits = load(Source(str(tmp_path)))
    assert splits.train.class_names == ("cat", "dog")
    assert np.bincount(splits.train.labels).tolist() == [7, 3]
    assert left_out(splits.account) == {
        "archives": (1, 0),
        "files of a system": (8, 5),
        "hidden files": (1, 1),
        "images beside the class folders": (1, 1),
        "images with the ending .bak, which is none of an image's": (1, 1),
        "other files": (2, 0),
        "videos": (1, 0),
    }
    assert splits.account.left_out[3] == LeftOut("images beside the class folders", 1, 1, ("loose.png",))
    assert splits.account.to_card() == {"left_out": {kind.kind: kind.files for kind in splits.account.left_out}}
    assert "loose" not in str(splits.account.to_card())


def test_images_of_kinds_that_are_not_read_are_refused_by_name_or_left_out(tmp_path):
    write_images(tmp_path, *CLASSES)
    write_files(tmp_path, "cat/2.heic", "dog/3.HEIC", "dog/4.cr2", "cat/5.svg", content=b"....ftypheic")
    write_files(tmp_path, "cat/nameless", content=b"\0\0\0\x18ftypheic")
    told = refusal(tmp_path)
    assert told.startswith("5 images cannot be read: ")
    assert f"{tmp_path}/cat/2.heic (one of the HEIC images, which are not read; convert it to PNG)" in told
    account = load(Source(str(tmp_path), skip_unreadable=True)).account
    assert [Path(file).name for file, _ in account.unreadable] == ["2.heic", "5.svg", "nameless", "3.HEIC", "4.cr2"]
    assert account.to_card() == {"left_out": {"images that cannot be read": 5}}
    for file in ("0.png", "1.png"):
        (tmp_path / "cat" / file).unlink()
    assert "cat: an empty class (no PNG" in refusal(tmp_path)
    assert "but 2 HEIC images, 1 SVG images)" in refusal(tmp_path)


def test_all_damaged_files_are_named_in_one_go_or_left_out(tmp_path):
    write_images(tmp_path, *CLASSES, *(f"cat/x{i:02d}.png" for i in range(12)))
    for i in range(12):
        write_files(tmp_path, f"cat/x{i:02d}.png", content=b"\x89PNG\r\n\x1a\n")
    for source in (load, load_stream):
        with pytest.raises(Unreadable) as caught:
            source(Source(str(tmp_path)))
        assert len(caught.value.files) == 12
        assert str(caught.value).startswith("12 images cannot be read: ")
        assert "x09.png (not a whole PNG image (truncated or damaged?)) and 2 more" in str(caught.value)
    splits = load(Source(str(tmp_path), skip_unreadable=True, n_train=2))
    assert (splits.n_available, len(splits.train.images), len(splits.account.unreadable)) == (4, 2, 12)


def test_what_is_left_out_changes_nothing_of_the_rest(tmp_path):
    write_images(tmp_path, *CLASSES)
    whole = load(Source(str(tmp_path)))
    write_files(tmp_path, "cat/00.png", "dog/00.heic")
    rest = load(Source(str(tmp_path), skip_unreadable=True))
    np.testing.assert_array_equal(rest.train.images, whole.train.images)
    assert load_stream(Source(str(tmp_path), skip_unreadable=True)).n_test == 0
    assert Source("x").to_json() == {
        "name": "x", "data_dir": None, "n_train": None, "n_test": None, "seed": 0, "image_size": None
    }  # fmt: skip
    assert Source.from_json(Source("x", skip_unreadable=True).to_json()).skip_unreadable


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a whole image: the file is empty"),
        (b"<!DOCTYPE html><html>", "not a whole image of a kind that is read: a web page"),
        (b"GIF89a" + bytes(40), "not a whole GIF image"),
        (b"\0\0\0\x18ftypheic", "a HEIC image, which is not read"),
        (b"hello", "not a whole image of a kind that is read (PNG, JPEG"),
    ],
)
def test_a_file_that_is_no_image_is_told_by_its_content(content, says):
    with pytest.raises(UserError, match="^x: ") as caught:
        decode_image(content, where="x", image_size=None)
    assert says in str(caught.value)


def test_an_image_is_read_whatever_its_ending_says(tmp_path):
    image = Image.fromarray(pixels(8, 8))
    image.save(tmp_path / "a.png", "GIF")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", where="a", image_size=None)[..., 0], image)


@pytest.mark.parametrize("kind", sorted(set(READABLE) - {"PSD"}))  # which Pillow does not write
def test_every_format_is_read_by_its_content(tmp_path, kind):
    image = Image.fromarray(pixels(32, 32, 3))
    file = tmp_path / f"a{READABLE[kind][0]}"
    image.save(file, kind)
    with Image.open(file) as again:
        expected = np.asarray(again.convert("RGB"))
    np.testing.assert_array_equal(decode_image(file, where="a", image_size=None), expected)
    assert look_at(file, where="a").format == kind
    write_images(tmp_path / "photos", "cat/0.png", "dog/0.png", size=32)
    file.rename(tmp_path / "photos" / "dog" / file.name)
    (tmp_path / "photos" / "cat" / "without").write_bytes((tmp_path / "photos" / "dog" / file.name).read_bytes())
    splits = load(Source(str(tmp_path / "photos"), image_size=32))  # Pillow saves icons larger
    assert (len(splits.train.images), splits.account.left_out) == (4, ())


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, kind):
    first, second = (Image.new("L", (8, 8), level) for level in (10, 200))
    first.save(
        tmp_path / "a", kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert set(decode_image(tmp_path / "a", where="a", image_size=None).ravel().tolist()) == {10}


def test_grey_with_alpha_stays_grey(tmp_path):
    image = Image.merge("LA", (Image.new("L", (1, 3), 100), Image.frombytes("L", (1, 3), bytes([0, 128, 255]))))
    image.save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png", where="a", image_size=None)
    assert decoded.shape == (3, 1, 1)
    np.testing.assert_allclose(decoded.ravel(), [255, 177, 100], atol=1)
    Image.new("L", (1, 1), 7).save(tmp_path / "b.png", transparency=7)
    assert decode_image(tmp_path / "b.png", where="b", image_size=None).tolist() == [[[255]]]


def test_pixels_that_do_not_go_into_8_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0.5, 1.0]], np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "b.tif")
    for name, says in (("a.tif", "floating point"), ("b.tif", "32 bits")):
        with pytest.raises(UserError, match=says):
            decode_image(tmp_path / name, where=name, image_size=None)


def test_a_class_name_that_is_not_utf_8_is_refused_before_anything_is_done(tmp_path):
    write_images(tmp_path, "cat/0.png", "caf\udce9/0.png")
    told = refusal(tmp_path)
    assert told.startswith(f"{tmp_path}/caf\\udce9: the name of this class is not UTF-8")
    assert told.isascii()
    with pytest.raises(UserError, match="this path is not UTF-8"):
        Source("caf\udce9")


def test_a_file_name_that_is_not_utf_8_is_no_fault(tmp_path):
    write_images(tmp_path, "cat/0.png", "dog/0\udce9.png")
    assert len(load(Source(str(tmp_path))).train.images) == 2
    write_files(tmp_path, "dog/0\udce9.png")
    assert "dog/0\\udce9.png: not a whole" in refusal(tmp_path)


def test_names_that_differ_in_how_an_accent_is_written_are_one_class(tmp_path):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    write_images(tmp_path / "a", f"train/{composed}/0.png", "train/tea/0.png", f"test/{apart}/0.png", "test/tea/0.png")
    splits = load(Source(str(tmp_path / "a")))
    assert splits.test is not None
    assert splits.train.class_names == splits.test.class_names == (composed, "tea")
    assert splits.test.labels.tolist() == [0, 1]
    write_images(tmp_path / "b", f"{composed}/0.png", f"{apart}/1.png", "tea/0.png")
    beside = load(Source(str(tmp_path / "b")))
    assert beside.train.class_names == (composed, "tea")
    assert np.bincount(beside.train.labels).tolist() == [2, 1]
    assert "differ only in how an accent is written; they are one class" in beside.account.warnings[0]
    write_images(tmp_path / "c", f"{apart}/1.png", "tea/0.png")
    assert load(Source(str(tmp_path / "c"))).train.class_names == (apart, "tea")  # as releases of before have it


def test_classes_that_differ_in_case_alone_are_warned_of(tmp_path):
    write_images(tmp_path, "Cat/0.png", "cat/0.png")
    splits = load(Source(str(tmp_path)))
    assert splits.train.class_names == ("Cat", "cat")
    (line,) = splits.account.warnings
    assert line.startswith("the classes Cat and cat differ in case alone")


def test_tiny_imagenet_is_read_as_it_is_published(tmp_path):
    write_images(tmp_path, *(f"train/{name}/images/{name}_{i}.JPEG" for name in ("n01", "n02") for i in range(3)))
    write_images(
        tmp_path, *(f"val/images/val_{i}.JPEG" for i in range(4)), *(f"test/images/{i}.JPEG" for i in range(2))
    )
    rows = ["val_0.JPEG\tn02\t0\t0\t9\t9", "val_1.JPEG\tn01\t0\t0\t9\t9", "val_2.JPEG\tn02\t1\t1\t2\t2"]
    write_files(tmp_path, "val/val_annotations.txt", content="\n".join(rows).encode())
    write_files(tmp_path, "wnids.txt", "train/n01/n01_boxes.txt")
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert splits.train.class_names == splits.test.class_names == ("n01", "n02")
    assert splits.test.labels.tolist() == [1, 0, 1]
    assert splits_of(splits.account) == {"train": ("train", 6), "val": ("test", 3), "test": ("not used", 2)}
    assert left_out(splits.account) == {
        "images that val_annotations.txt has no class for": (1, 1), "other files": (2, 0)
    }  # fmt: skip
    write_files(tmp_path, "val/val_annotations.txt", content=b"\xff")
    assert "val_annotations.txt: not a table of file and class" in refusal(tmp_path)


def test_links_to_folders_are_told_of_and_circles_are_no_class(tmp_path):
    write_images(tmp_path / "photos", *CLASSES)
    write_images(tmp_path / "elsewhere", "0.png")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "cat" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    splits = load(Source(str(tmp_path / "photos")))
    assert splits.train.class_names == ("cat", "dog", "linked")
    assert len(splits.train.images) == 5
    assert left_out(splits.account) == {"links to folders": (2, 0)}


def test_equal_images_are_counted_and_told_of_once(tmp_path):
    write_images(tmp_path, *below("train"), *below("test"))
    for source, target in (
        ("train/cat/0.png", "train/dog/9.png"),
        ("train/dog/1.png", "train/dog/8.png"),
        ("train/cat/1.png", "test/cat/7.png"),
    ):
        Image.open(tmp_path / source).save(tmp_path / target)
    account = load_stream(Source(str(tmp_path))).account
    across, within, test = account.warnings
    assert across.startswith("2 train images are also in another class, with the same pixels, such as ")
    assert across.endswith(f"{tmp_path}/train/cat/0.png and {tmp_path}/train/dog/9.png")
    assert within.startswith("1 train images are copies of another of their class")
    assert test.endswith(f"{tmp_path}/train/cat/1.png and {tmp_path}/test/cat/7.png")
