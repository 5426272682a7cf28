"""What somebody did to a release: a line that says of what kind it is."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from release_examples import make_release

from ugejax.app.release import describe_change, verify_release

N = 40


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Forty smooth pictures of 16 x 16 pixels with noise of a protection's size."""
    draws = np.random.default_rng(0)
    coarse = draws.integers(0, 256, (N, 3, 3, 3)).astype(np.uint8)
    originals = np.stack([np.asarray(Image.fromarray(image).resize((16, 16))) for image in coarse])
    noise = draws.integers(-8, 9, originals.shape)
    noise[0, 0, 0] = 8
    images = np.clip(originals.astype(int) + noise, 0, 255).astype(np.uint8)
    labels = np.arange(N, dtype=np.int32) % 3
    return make_release(tmp_path / "R", images=images, labels=labels, originals=originals, save_images=True)


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "data.npz") as data:
        return data["data"].copy(), data["targets"].copy()


def save(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(folder / "data.npz", data=images, targets=labels)
    assert not all(check.ok for check in verify_release(folder))
    line = describe_change(folder)
    assert line is not None and "\n" not in line
    return line


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


def test_nothing_is_said_of_what_is_whole(release):
    assert describe_change(release) is None


@pytest.mark.parametrize("quality", [50, 75, 85])
def test_images_that_were_saved_as_jpeg(release, quality):
    images, labels = arrays(release)
    line = save(release, np.stack([as_jpeg(image, quality) for image in images]), labels)
    assert line.startswith("saved again as JPEG: 40 of 40 images have other pixels")


def test_images_that_were_filtered_are_not_taken_for_jpeg(release):
    images, labels = arrays(release)
    told = "every one of the 40 images has other pixels: saved again with loss, filtered, or protected anew"
    assert save(release, 255 - images, labels) == told
    assert save(release, np.clip(images.astype(int) + 1, 0, 255).astype(np.uint8), labels) == told


def test_images_that_were_resized(release):
    images, labels = arrays(release)
    assert save(release, images[:, ::2, ::2], labels) == (
        "resized: the images are [8, 8, 3], those of the release [16, 16, 3]"
    )


def test_one_pixel_that_was_changed(release):
    images, labels = arrays(release)
    images[7, 3, 4, 1] ^= 1
    assert save(release, images, labels) == "changed: 1 of 40 images have other pixels than were released (7)"


def test_images_that_were_dropped(release):
    images, labels = arrays(release)
    kept = np.delete(np.arange(N), [3, 8])
    assert save(release, images[kept], labels[kept]) == "dropped: 2 of 40 images are missing (3, 8)"
    assert save(release, images[kept[::-1]], labels[kept[::-1]]).endswith("(3, 8), and the others are in another order")


def test_images_that_were_put_in_another_order(release):
    images, labels = arrays(release)
    order = np.roll(np.arange(N), 5)
    line = save(release, images[order], labels[order])
    assert line == "re-ordered: the 40 images are those of the release in another order; at 0 lies what was image 35"


def test_images_that_were_added_or_exchanged(release):
    images, labels = arrays(release)
    more = np.concatenate([images, images[:1] ^ 1]), np.append(labels, labels[:1])
    assert save(release, *more) == "added: 1 images that the release does not have, or has once (40)"
    assert save(release, more[0][1:-2].repeat(2, axis=0) ^ 1, more[1][1:-2].repeat(2)).startswith("76 of 76 images are")


def test_labels_that_were_changed(release):
    images, labels = arrays(release)
    labels[[2, 5]] = labels[[5, 2]] = labels[[0, 1]]
    assert save(release, images, labels).startswith("labels changed: ")


def test_image_files_that_were_changed(release):
    folder = release / "images"
    kept = (folder / "3.png").read_bytes()

    def told() -> str:
        assert not all(check.ok for check in verify_release(release))
        return str(describe_change(release))

    pixels = np.asarray(Image.open(folder / "3.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "3.png")
    assert told() == "images/: 1 of 40 files have other pixels; 3.png differs in 1 pixel"
    Image.fromarray(pixels).resize((9, 9)).save(folder / "3.png")
    assert told() == "images/: resized; 3.png is 9 x 9 pixels"
    (folder / "3.png").unlink()
    assert told() == "images/: 1 of 40 files are missing (3)"
    Image.fromarray(pixels).save(folder / "3.jpg")
    assert told() == "images/: saved again in another format (1 JPEG), which loses what the release depends on"
    (folder / "3.jpg").unlink()
    (folder / "3.png").write_bytes(kept)
    assert describe_change(release) is None
