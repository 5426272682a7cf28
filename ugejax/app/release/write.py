"""Writing a release: whole or not at all, piece by piece, the same bytes for the same content."""

import csv
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ugejax import __version__
from ugejax.app.files import published, synced
from ugejax.app.release.quality import Quality, measure_quality
from ugejax.data import Images
from ugejax.data.dataset import check_images, check_labels
from ugejax.data.stream import pieces
from ugejax.errors import UserError

MANIFEST_COLUMNS = ("index", "label", "class_name", "sha256")
# How a cell begins that a spreadsheet takes for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def write_release(
    path: str | os.PathLike[str],
    *,
    images: Images,
    labels: np.ndarray,
    class_names: Sequence[str],
    originals: Images,
    card: Mapping[str, Any],
    quality: Quality | None = None,
    save_images: bool = False,
) -> None:
    """Writes a release folder.

    It holds `data.npz` (uint8 `data` [N, H, W, C], int32 `targets` [N], not compressed), `manifest.csv` (index, label,
    class_name, sha256 of the pixel bytes), `card.json` and, on request, `images/<index>.png`. It appears whole or not
    at all, see `published`. No file holds a time, so equal content gives equal bytes. Few images are in memory at a
    time, whatever their number.

    Args:
      path: the folder to make; it must not exist, its parents need not.
      images: released images, uint8 [N, H, W, C].
      labels: int [N].
      class_names: one name per label.
      originals: what images were made from, uint8 [N, H, W, C]; measured against, not stored.
      card: what the card says of method, settings, seed, declared `eps` (in units of [0, 1]) and `norm` (`linf` or
        `l2`); strict JSON. Added to it are `n`, `image_shape`, `class_names`, `realised_eps`, `psnr`, `ssim`,
        `untouched_images`, `versions` and `sha256`.
      quality: what `measure_quality` says of images and originals, where that is known already.
      save_images: whether to write the images as PNG files too.

    Raises:
      UserError: the folder exists, cannot be written, the disk is full, or images and labels are not fit for a release.
      ValueError: the card is not strict JSON or has one of the fields that are added.
    """
    target = Path(path)
    check_images(images, "the release")
    check_labels(labels, tuple(class_names), n_images=len(images), where="the release")
    if originals.shape != images.shape or originals.dtype != np.uint8:
        raise UserError(
            f"the release: originals must be uint8 {list(images.shape)}, not {originals.dtype} {list(originals.shape)}"
        )
    labels = labels.astype(np.int32)
    added = {
        "n": len(images),
        "image_shape": list(images.shape[1:]),
        "class_names": list(class_names),
        **(quality or measure_quality(images, originals)).summary(),
        "versions": {"ugejax": __version__, "jax": version("jax"), "numpy": version("numpy")},
    }
    if clash := (set(added) | {"sha256"}) & set(card):
        raise ValueError(f"the card must not have the fields {sorted(clash)}, which are added here")
    # Tried before anything is written.
    _to_json({**card, **added})
    with published(target) as partial:
        partial.mkdir()
        hashes = {
            "data.npz": _write_npz(partial / "data.npz", images, labels),
            "manifest.csv": _write(partial / "manifest.csv", manifest(images, labels, class_names)),
        }
        if save_images:
            write_images(partial / "images", images)
        _write(partial / "card.json", [_to_json({**card, **added, "sha256": hashes}).encode()])


def _write_npz(path: Path, images: Images, labels: np.ndarray) -> str:
    """What `np.savez(path, data=images, targets=labels)` writes, to the byte; returns its SHA-256."""
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(images.shape)}
    # The archive's members carry 1980-01-01 as their time, whatever the clock says.
    with synced(path) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("data.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for part in pieces(len(images), of=images.shape[1:]):
                member.write(images[part].tobytes())
        with archive.open("targets.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, labels, allow_pickle=False)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(images: Images, labels: np.ndarray, class_names: Sequence[str]) -> Iterator[bytes]:
    """The table `manifest.csv`: index, label, class name and SHA-256 of the pixel bytes of every image; in pieces.

    Class names are as `in_a_cell` gives them.
    """
    text, class_names = io.StringIO(newline=""), [in_a_cell(name) for name in class_names]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    for part in pieces(len(images), of=images.shape[1:]):
        for index, image in enumerate(images[part], part.start):
            label = int(labels[index])
            writer.writerow((index, label, class_names[label], hashlib.sha256(image.tobytes()).hexdigest()))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def in_a_cell(text: str) -> str:
    """A text as a cell of a table of commas: one that a spreadsheet would run as a formula, such as =1+1, behind a '.

    CSV has no other way to say that a cell is text (OWASP, CSV Injection).
    """
    return f"'{text}" if text.startswith(_FORMULAS) else text


def write_images(folder: Path, images: Images) -> None:
    """Writes uint8 images [N, H, W, C] as `<index>.png` into a new folder."""
    folder.mkdir()
    for part in pieces(len(images), of=images.shape[1:]):
        for index, image in enumerate(images[part], part.start):
            encoded = io.BytesIO()
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(encoded, "PNG")
            (folder / f"{index}.png").write_bytes(encoded.getvalue())
    # Once for all: a flush for each of 50,000 small files takes minutes.
    os.sync()


def _write(path: Path, content: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    with synced(path) as file:
        for piece in content:
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _to_json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
