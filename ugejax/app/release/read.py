"""Reading a release without trusting it: no pickles, no links, no archive that unpacks to more than it is."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.app.release.write import MANIFEST_COLUMNS
from ugejax.data import Dataset, check_dataset
from ugejax.data.arrays import read_npz
from ugejax.errors import UserError

# Bytes that a card may have, and more of them for each image: classes, whose names it lists, are not more than images.
# JSON takes up to 24 times its size in memory.
_MOST_CARD, _MORE_CARD = 2**20, 2**6
# Bytes that a manifest may have: it takes about a hundred an image, and ten times as much in memory.
_MOST_MANIFEST = 2**28
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, eq=False)
class Release:
    """What a release holds.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
      class_names: one name per label.
      card: the content of `card.json`.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    card: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of `manifest.csv`."""

    index: int
    label: int
    class_name: str
    sha256: str


def read_release(path: str | os.PathLike[str]) -> Release:
    """Reads a release and checks `data.npz` and `manifest.csv` against the hashes in its card.

    Args:
      path: its folder.

    Raises:
      UserError: the folder or a file in it is missing, damaged or changed.
    """
    folder = Path(path)
    card = read_card(folder)
    for name in ("data.npz", "manifest.csv"):
        check_hash(folder, card, name)
    images, labels = read_data(folder)
    dataset = Dataset(images, labels, tuple(card["class_names"]))
    check_dataset(dataset, str(folder / "data.npz"))
    return Release(dataset.images, dataset.labels, dataset.class_names, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The content of `card.json`.

    Raises:
      UserError: it is missing, no JSON object, larger than the number of images accounts for, or lacks class names.
    """
    path = folder / "card.json"
    content = _read(path, _MOST_CARD + _MORE_CARD * _count(folder))
    try:
        # Python's parser reads NaN and Infinity, which are no JSON; ValueError is what it raises on damage.
        card = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not strict JSON; get the release again") from error
    if not isinstance(card, dict):
        raise UserError(f"{path}: not a JSON object; get the release again")
    names = card.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: class_names must be a list of text; get the release again")
    return card


def key_fingerprints(card: dict[str, Any]) -> list[str]:
    """Fingerprints of the keys that a release was made with; of a damaged card those that can be read."""
    further = card.get("further_keys", [])
    described = [card, *(further if isinstance(further, list) else [])]
    found = [one.get("key_fingerprint") for one in described if isinstance(one, dict)]
    return [fingerprint for fingerprint in found if isinstance(fingerprint, str)]


def salt_of(card: dict[str, Any]) -> bytes | None:
    """The salt, 16 bytes, that the views of a release's keys take; None in the card of a release without one.

    Raises:
      UserError: it is damaged.
    """
    salt = card.get("salt")
    if salt is None:
        return None
    if not isinstance(salt, str) or not re.fullmatch("[0-9a-f]{32}", salt):
        raise UserError("card.json: salt must be 32 hexadecimal digits; get the release again")
    return bytes.fromhex(salt)


def read_data(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of `data.npz`, uint8 [N, H, W, C] and int32 [N].

    Raises:
      UserError: it is missing, damaged, compressed, or does not hold exactly these two arrays.
    """
    path = folder / "data.npz"
    _check_plain(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    # A damaged directory of the archive makes zipfile raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: not a whole .npz archive; get the release again") from error
    if sorted(member.filename for member in members) != ["data.npy", "targets.npy"]:
        raise UserError(f"{path}: must hold the arrays data and targets and nothing else; get the release again")
    # A compressed member may unpack to any size, and hides what is in it from a search for key material.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"{path}: is compressed, which no release is; get the release again")
    arrays = read_npz(path, ("data", "targets"))
    images, labels = arrays["data"], arrays["targets"]
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path}: data must be uint8 [N, H, W, C] and targets int32 [N], but they are {images.dtype} "
            f"{list(images.shape)} and {labels.dtype} {list(labels.shape)}; get the release again"
        )
    return images, labels


def read_manifest(folder: Path) -> list[ManifestRow]:
    """The lines of `manifest.csv`.

    Raises:
      UserError: it is missing or damaged; the first line that is not as it should be is the last that is read.
    """
    path = folder / "manifest.csv"
    content = _read(path, _MOST_MANIFEST)
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
        rows = csv.reader(lines, strict=True)
        if tuple(next(rows, ())) != MANIFEST_COLUMNS:
            raise ValueError("other columns")
        return [_row(row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table of {', '.join(MANIFEST_COLUMNS)}; get the release again") from error


def _row(cells: list[str]) -> ManifestRow:
    index, label, class_name, sha256 = cells
    if not _SHA256.fullmatch(sha256):
        raise ValueError("no SHA-256")
    return ManifestRow(int(index), int(label), class_name, sha256)


def check_hash(folder: Path, card: dict[str, Any], name: str) -> None:
    """Checks a file against its hash in the card.

    Raises:
      UserError: it is missing, or not what was released.
    """
    hashes = card.get("sha256")
    expected = hashes.get(name) if isinstance(hashes, dict) else None
    if not isinstance(expected, str):
        raise UserError(f"{folder / 'card.json'}: no sha256 of {name}; get the release again")
    if _sha256(folder / name) != expected:
        raise UserError(f"{folder / name}: changed since the release was written (sha256); get the release again")


def _count(folder: Path) -> int:
    """How many images a release has, as far as the size of its `data.npz` bears it out; 0 where there is none."""
    path = folder / "data.npz"
    try:
        _check_plain(path)
        with zipfile.ZipFile(path) as archive:
            declared = archive.getinfo("targets.npy").file_size // 4
        return min(declared, path.stat().st_size // 5)  # a pixel and a label of four bytes
    except Exception:  # of a damaged archive nearly anything; who reads it says so
        return 0


def _read(path: Path, most: int) -> bytes:
    with _opened(path) as file:
        # No more than there is: memory for all that may be read is set aside first.
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > most:
        raise UserError(f"{path}: larger than that of any release; get the release again")
    return content


def _sha256(path: Path) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    _check_plain(path)
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_plain(path: Path) -> None:
    """Refuses what is not there, links that lead out of the release, and pipes, which would never end."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is {path.parent} a whole release?") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: not a plain file; get the release again")


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
