"""Writing a release: whole or not at all, the same bytes for the same content."""

import csv
import hashlib
import importlib.metadata
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ugejax.data import Dataset, check_dataset
from ugejax.errors import UserError
from ugejax.release.quality import measure_quality
from ugejax.whole import synced, whole

MANIFEST_COLUMNS = ("index", "label", "class_name", "sha256")


def write_release(
    path: str | os.PathLike[str],
    *,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    originals: np.ndarray,
    card: Mapping[str, Any],
    save_images: bool = False,
) -> None:
    """Writes a release folder.

    It holds `data.npz` (uint8 `data` [N, H, W, C], int32 `targets` [N], not compressed), `manifest.csv` (index, label,
    class_name, sha256 of the pixel bytes), `card.json` and, on request, `images/<index>.png`. It appears whole or not
    at all, see `whole`. No file holds a time, so equal content gives equal bytes.

    Args:
      path: the folder to make; it must not exist, its parents need not.
      images: released images, uint8 [N, H, W, C].
      labels: int [N].
      class_names: one name per label.
      originals: what images were made from, uint8 [N, H, W, C]; measured against, not stored.
      card: what the card says of method, settings, seed, declared `eps` (in units of [0, 1]) and `norm` (`linf` or
        `l2`); strict JSON. Added to it are `n`, `image_shape`, `class_names`, `realised_eps`, `psnr`, `ssim`,
        `untouched_images`, `versions` and `sha256`.
      save_images: whether to write the images as PNG files too.

    Raises:
      UserError: the folder exists, cannot be written, the disk is full, or images and labels are not fit for a release.
      ValueError: the card is not strict JSON or has one of the fields that are added.
    """
    target = Path(path)
    images, labels, originals = np.asarray(images), np.asarray(labels), np.asarray(originals)
    check_dataset(Dataset(images, labels, tuple(class_names)), "the release")
    if originals.shape != images.shape or originals.dtype != np.uint8:
        raise UserError(
            f"the release: originals must be uint8 {list(images.shape)}, not {originals.dtype} {list(originals.shape)}"
        )
    labels = labels.astype(np.int32)
    added = {
        "n": len(images),
        "image_shape": list(images.shape[1:]),
        "class_names": list(class_names),
        **measure_quality(images, originals).summary(),
        "versions": {name: _version(name) for name in ("ugejax", "jax", "numpy")},
    }
    if clash := (set(added) | {"sha256"}) & set(card):
        raise ValueError(f"the card must not have the fields {sorted(clash)}, which are added here")
    # Tried before anything is written.
    _to_json({**card, **added})
    with whole(target) as partial:
        partial.mkdir()
        hashes = {
            "data.npz": _write(partial / "data.npz", _npz(images, labels)),
            "manifest.csv": _write(partial / "manifest.csv", manifest(images, labels, class_names)),
        }
        if save_images:
            write_images(partial / "images", images)
        _write(partial / "card.json", _to_json({**card, **added, "sha256": hashes}).encode())


def _npz(images: np.ndarray, labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    # The archive's members carry 1980-01-01 as their time, whatever the clock says.
    np.savez(buffer, data=np.ascontiguousarray(images), targets=labels)
    return buffer.getvalue()


def manifest(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The table `manifest.csv`: index, label, class name and SHA-256 of the pixel bytes of every image."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        writer.writerow((index, label, class_names[label], hashlib.sha256(image.tobytes()).hexdigest()))
    return text.getvalue().encode()


def write_images(folder: Path, images: np.ndarray) -> None:
    """Writes uint8 images [N, H, W, C] as `<index>.png` into a new folder."""
    folder.mkdir()
    for index, image in enumerate(images):
        encoded = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(encoded, "PNG")
        (folder / f"{index}.png").write_bytes(encoded.getvalue())
    # Once for all: a flush for each of 50,000 small files takes minutes.
    os.sync()


def _write(path: Path, content: bytes) -> str:
    with synced(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def _to_json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
