"""What was done to a release that is not what it was: saved again with loss, resized, changed, thinned out, re-ordered.

The manifest has a hash of each image. Which images these are tells what happened, but not by how much a changed image
differs: nothing of the release is left to compare it with, unless it lies in `images/` too.
"""

import collections
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ugejax.app.release.read import read_card, read_manifest
from ugejax.data.arrays import read_npz
from ugejax.data.image_file import decode_image
from ugejax.data.kinds import format_of
from ugejax.errors import UserError

_HEAD = 132
# Of the traces of JPEG: frequencies of a block that are looked at, steps that are tried, coefficients that must be
# there, how well they lie on a step's multiples (1 is exactly), and in how many frequencies.
_FREQUENCIES = [(u, v) for u in range(5) for v in range(5) if 0 < u + v < 5]
_STEPS, _ENOUGH, _ALIKE, _FOUND = range(5, 60), 12, 0.6, 4


def describe_change(folder: Path) -> str | None:
    """What kind of change makes a release fail its checks, in a line; None where nothing changed or it cannot be told.

    Args:
      folder: the release.
    """
    try:
        card, expected = read_card(folder), read_manifest(folder)
        arrays = read_npz(folder / "data.npz", ("data", "targets"))
        images, labels = arrays["data"], arrays["targets"]
        if images.dtype != np.uint8 or images.ndim != 4:
            return f"the images are {images.dtype} {list(images.shape)} now, no longer uint8 [N, H, W, C]"
        if card.get("image_shape") != list(images.shape[1:]):
            return f"resized: the images are {list(images.shape[1:])}, those of the release {card.get('image_shape')}"
        found = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        hashes = [row.sha256 for row in expected]
        if found != hashes:
            return _moved(found, hashes) or _repainted(images, found, hashes)
        wrong = [row.index for row, label in zip(expected, labels.tolist(), strict=False) if row.label != label]
        if wrong:
            return f"labels changed: {len(wrong)} of {len(expected)} images have another label ({_some(wrong)})"
        return _files(folder / "images", images)
    except (UserError, KeyError, OSError):
        return None


def _moved(found: list[str], expected: list[str]) -> str | None:
    """What was done where all images that are there are images of the release; None where some are not."""
    have, want = collections.Counter(found), collections.Counter(expected)
    missing, more = want - have, have - want
    if not missing and not more:
        first = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        return (
            f"re-ordered: the {len(found)} images are those of the release in another order; at {first} lies what was "
            f"image {expected.index(found[first])}"
        )
    if missing and not more:
        gone = [i for i, sha256 in enumerate(expected) if sha256 in missing]
        rest = [sha256 for sha256 in expected if sha256 not in missing]
        order = "" if found == rest else ", and the others are in another order"
        return f"dropped: {missing.total()} of {len(expected)} images are missing ({_some(gone)}){order}"
    if more and not missing:
        new = [i for i, sha256 in enumerate(found) if sha256 in more]
        return f"added: {more.total()} images that the release does not have, or has once ({_some(new)})"
    return None


def _repainted(images: np.ndarray, found: list[str], expected: list[str]) -> str:
    """What was done where some images are none of the release's."""
    known = set(expected)
    strange = [i for i, sha256 in enumerate(found) if sha256 not in known]
    if len(found) != len(expected):
        return (
            f"{len(strange)} of {len(found)} images are none of the release's, which had {len(expected)}: images were "
            "exchanged, or dropped and changed"
        )
    if _was_jpeg(images[strange]):
        return (
            f"saved again as JPEG: {len(strange)} of {len(found)} images have other pixels, in the steps of its "
            f"quantisation ({_some(strange)})"
        )
    if len(strange) == len(found):
        return (
            f"every one of the {len(found)} images has other pixels: saved again with loss, filtered, or protected anew"
        )
    return f"changed: {len(strange)} of {len(found)} images have other pixels than were released ({_some(strange)})"


def _was_jpeg(images: np.ndarray) -> bool:
    """Whether the brightness of blocks of 8 x 8 pixels lies on multiples of a step in each frequency, as after JPEG.

    For coefficients c beyond half a step q, the mean of cos(2 pi c / q) is 1 on multiples and about 0 elsewhere.
    """
    from scipy import fft  # here, since it takes a while to import, and few releases are damaged

    weights = [0.299, 0.587, 0.114] if images.shape[-1] == 3 else [1.0]
    grey = images[..., : len(weights)].astype(np.float64) @ weights - 128
    n, height, width = grey.shape
    rows, columns = height // 8, width // 8
    if n * rows * columns < _ENOUGH:
        return False
    blocks = grey[:, : 8 * rows, : 8 * columns].reshape(n, rows, 8, columns, 8).transpose(0, 1, 3, 2, 4)
    coefficients = np.asarray(fft.dctn(blocks, axes=(-2, -1), norm="ortho"))

    def fits(values: np.ndarray) -> bool:
        for step in _STEPS:
            beyond = values[np.abs(values) > 0.6 * step]
            if len(beyond) >= _ENOUGH and np.cos(2 * math.pi * beyond / step).mean() > _ALIKE:
                return True
        return False

    return sum(fits(coefficients[..., u, v].ravel()) for u, v in _FREQUENCIES) >= _FOUND


def _files(folder: Path, images: np.ndarray) -> str | None:
    """What was done to the image files, where the arrays are as they were."""
    if not folder.is_dir():
        return None
    kinds: collections.Counter[str] = collections.Counter()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                kinds[format_of(file.read(_HEAD)) or "something else"] += 1
    others = {kind: count for kind, count in kinds.items() if kind != "PNG"}
    if others:
        named = ", ".join(f"{count} {kind}" for kind, count in others.items())
        return f"images/: saved again in another format ({named}), which loses what the release depends on"
    missing = [i for i in range(len(images)) if not (folder / f"{i}.png").is_file()]
    if missing:
        return f"images/: {len(missing)} of {len(images)} files are missing ({_some(missing)})"
    differing: dict[int, int] = {}
    for i, image in enumerate(images):
        pixels = decode_image(folder / f"{i}.png", where=f"images/{i}.png", image_size=None)
        if pixels.shape[:2] != image.shape[:2]:
            return f"images/: resized; {i}.png is {pixels.shape[1]} x {pixels.shape[0]} pixels"
        if count := int((pixels != image).any(axis=-1).sum()):
            differing[i] = count
    if not differing:
        return None
    first, count = next(iter(differing.items()))
    pixel = "pixel" if count == 1 else "pixels"
    return f"images/: {len(differing)} of {len(images)} files have other pixels; {first}.png differs in {count} {pixel}"


def _some(items: Sequence[int]) -> str:
    return ", ".join(map(str, items[:5])) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
