"""Image folders, and the image files in them."""

import io
import os
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ugejax.data import Source, load, load_all
from ugejax.data.image_file import decode_image
from ugejax.errors import UserError


@pytest.fixture(autouse=True)
def nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return pixels


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def decode(path: Path, image_size: int | None = None) -> np.ndarray:
    return decode_image(path, where=str(path), image_size=image_size)


def refusal(source: Source) -> str:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def two_classes(root: Path, *, size: int = 8) -> None:
    for label, name in enumerate(("cat", "dog")):
        for index in range(3):
            save(root / name / f"{index}.png", noise(size, size, 3, seed=10 * label + index))


def test_one_folder_per_class_in_the_order_of_names(tmp_path: Path):
    two_classes(tmp_path)
    (tmp_path / "readme.txt").write_text("left out")
    (tmp_path / "cat" / "Thumbs.db").write_text("left out")
    (tmp_path / "cat" / ".hidden.png").write_text("left out")
    (tmp_path / "__MACOSX").mkdir()
    splits = load(Source(str(tmp_path)))
    assert splits.test is None
    assert splits.train.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(splits.train.images[4], noise(8, 8, 3, seed=11))


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_train_and_test_folders(tmp_path: Path, test_name):
    two_classes(tmp_path / "train")
    save(tmp_path / test_name / "dog" / "images" / "0.png", noise(8, 8, 3, seed=90))
    save(tmp_path / test_name / "cat" / "0.PNG", noise(8, 8, 3, seed=91))
    splits = load(Source(str(tmp_path), n_train=4))
    assert splits.test is not None
    assert len(splits.train.images) == 4
    assert splits.test.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(splits.test.images[1], noise(8, 8, 3, seed=90))
    np.testing.assert_array_equal(load_all(Source(str(tmp_path))).images, splits.test.images)


def test_test_classes_must_be_those_of_train(tmp_path: Path):
    two_classes(tmp_path / "train")
    save(tmp_path / "test" / "dog" / "0.png", noise(8, 8, 3))
    save(tmp_path / "test" / "cow" / "0.png", noise(8, 8, 3))
    assert "only one of them has 'cat'" in refusal(Source(str(tmp_path)))


def test_test_images_must_have_the_size_of_train(tmp_path: Path):
    two_classes(tmp_path / "train")
    two_classes(tmp_path / "test", size=9)
    assert "differ in size" in refusal(Source(str(tmp_path)))


def test_train_without_test_folder_can_be_split(tmp_path: Path):
    two_classes(tmp_path / "train")
    splits = load(Source(str(tmp_path), n_test=2))
    assert splits.test is not None
    assert (len(splits.train.labels), len(splits.test.labels)) == (4, 2)


def test_lossless_formats_keep_pixels(tmp_path: Path):
    pixels = noise(6, 7, 3)
    for name, options in (("a.png", {}), ("a.bmp", {}), ("a.webp", {"lossless": True})):
        save(tmp_path / name, pixels, **options)
        np.testing.assert_array_equal(decode(tmp_path / name), pixels)
    grey = save(tmp_path / "grey.png", noise(6, 7))
    np.testing.assert_array_equal(decode(tmp_path / "grey.png"), grey[..., None])


def test_jpeg_is_what_pillow_decodes(tmp_path: Path):
    save(tmp_path / "a.jpg", noise(16, 16, 3), quality=90)
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(decode(tmp_path / "a.jpg"), np.asarray(image))
    save(tmp_path / "cmyk.jpg", noise(16, 16, 3), "CMYK")
    assert decode(tmp_path / "cmyk.jpg").shape == (16, 16, 3)


def test_transparency_is_laid_on_white(tmp_path: Path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = (0, 128, 255)
    save(tmp_path / "a.png", pixels)
    np.testing.assert_allclose(decode(tmp_path / "a.png")[0], [[255, 255, 255], [227, 127, 127], [200, 0, 0]], atol=1)


def test_palettes_become_their_colours(tmp_path: Path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 255]]]
    image.save(tmp_path / "b.png", transparency=1)
    assert decode(tmp_path / "b.png").tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_one_bit_images_are_black_and_white(tmp_path: Path):
    save(tmp_path / "a.png", np.array([[0, 255]], np.uint8), "1")
    assert decode(tmp_path / "a.png").ravel().tolist() == [0, 255]


def test_16_bit_grey_is_scaled_not_cut(tmp_path: Path):
    values = np.array([[0, 128, 129, 257, 1000, 32768, 65535]], np.uint16)
    save(tmp_path / "a.png", values)
    assert decode(tmp_path / "a.png").ravel().tolist() == [round(v / 257) for v in values.ravel().tolist()]
    save(tmp_path / "big.png", np.full((8, 8), 65535, np.uint16))
    assert decode(tmp_path / "big.png", image_size=4).ravel().tolist() == [255] * 16


def test_exif_rotation_is_applied(tmp_path: Path):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), np.rot90(pixels, -1))


def test_mixed_sizes_need_an_image_size(tmp_path: Path):
    two_classes(tmp_path)
    save(tmp_path / "dog" / "wide.png", noise(8, 12, 3))
    told = refusal(Source(str(tmp_path)))
    assert "wide.png is 12 x 8" in told and "(`image_size`)" in told
    train = load(Source(str(tmp_path), image_size=8)).train
    np.testing.assert_array_equal(train.images[0], noise(8, 8, 3, seed=0))
    np.testing.assert_array_equal(train.images[-1], noise(8, 12, 3)[:, 2:10])


def test_grey_among_colour_becomes_rgb(tmp_path: Path):
    grey = save(tmp_path / "cat" / "0.png", noise(8, 8))
    colour = save(tmp_path / "dog" / "0.png", noise(8, 8, 3))
    images = load(Source(str(tmp_path))).train.images
    np.testing.assert_array_equal(images[0], np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(images[1], colour)


def test_grey_train_and_colour_test_images_become_rgb(tmp_path: Path):
    for name in ("cat", "dog"):
        save(tmp_path / "train" / name / "0.png", noise(8, 8))
        save(tmp_path / "test" / name / "0.png", noise(8, 8, 3))
    assert load(Source(str(tmp_path))).train.images.shape == (2, 8, 8, 3)


def test_folders_that_are_no_image_folder(tmp_path: Path):
    assert "no class folders" in refusal(Source(str(tmp_path)))
    (tmp_path / "cat").mkdir()
    assert "an empty class" in refusal(Source(str(tmp_path)))
    save(tmp_path / "cat" / "0.png", noise(8, 8, 3))
    assert "only one class" in refusal(Source(str(tmp_path)))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    told = refusal(Source(str(tmp_path)))
    assert f"{tmp_path}/dog" in told and "an empty class" in told


def test_a_folder_without_permission(tmp_path: Path, monkeypatch):
    two_classes(tmp_path)
    list_folder = os.scandir

    def refuse(folder):
        if Path(folder).name == "dog":
            raise PermissionError(13, "Permission denied")
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"{tmp_path}/dog: cannot list it (Permission denied)" in refusal(Source(str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40)])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content):
    two_classes(tmp_path)
    (tmp_path / "dog" / "1.png").write_bytes(content)
    told = refusal(Source(str(tmp_path)))
    assert told.startswith(f"{tmp_path}/dog/1.png: not a whole")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix):
    two_classes(tmp_path)
    path = tmp_path / "dog" / f"cut.{suffix}"
    save(path, noise(8, 8, 3))
    path.write_bytes(path.read_bytes()[:-40])
    assert f"cut.{suffix}: not a whole" in refusal(Source(str(tmp_path)))


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


# Pillow only warns of the first and refuses the second.
@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side):
    two_classes(tmp_path)
    (tmp_path / "dog" / "bomb.png").write_bytes(png_claiming(side, side))
    assert "bomb.png: too many pixels" in refusal(Source(str(tmp_path)))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_images_never_give_a_traceback(data):
    encoded = io.BytesIO()
    Image.fromarray(noise(8, 8, 3)).save(encoded, data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"])))
    content = bytearray(encoded.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert decode_image(bytes(content), where="x", image_size=8).shape[:2] == (8, 8)
        except UserError as error:
            assert str(error).startswith("x: ")


def test_tiny_imagenet_is_read_as_it_is(tmp_path: Path, shared_data: Path):
    archive = shared_data / "tiny-imagenet-200-subset.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    with tarfile.open(archive) as tar:
        kept = [m for m in tar.getmembers() if "/n01443537/" in m.name or "/n01742172/" in m.name]
        tar.extractall(tmp_path, members=kept, filter="data")
    root = tmp_path / "tiny-imagenet-200-subset"
    splits = load(Source(str(root)))
    assert splits.test is not None
    assert splits.train.class_names == ("n01443537", "n01742172")
    assert splits.train.images.shape == (100, 64, 64, 3)
    assert splits.test.images.shape == (20, 64, 64, 3)
    first = min((root / "train" / "n01443537").iterdir())
    with Image.open(first) as image:
        np.testing.assert_array_equal(splits.train.images[0], np.asarray(image.convert("RGB")))
