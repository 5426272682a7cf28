"""Checks of a release by whoever received it, or by its owner with originals and key at hand."""

import dataclasses
import functools
import hashlib
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ugejax.app.release.quality import measure_quality
from ugejax.app.release.read import ManifestRow, check_hash, key_fingerprints, read_card, read_data, read_manifest
from ugejax.app.release.secrets import find_secret, forms_of_numbers, forms_of_secret
from ugejax.app.release.write import in_a_cell
from ugejax.data import Dataset, check_dataset
from ugejax.data.image_file import decode_image
from ugejax.errors import UserError

# By how many grey levels 255 eps may miss the whole number that was meant.
_TOLERANCE = 1e-4
# Relative excess of an L2 norm that is summation order, not noise: one grey level in one value is far more.
_L2_TOLERANCE = 1e-6
_KEY_NAMES = (
    "key.json",
    "generator.json",
    "_METADATA",
    "_CHECKPOINT_METADATA",
    "_sharding",
    "manifest.ocdbt",
    "ocdbt.process",
)


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of one check: what was checked, whether it held, and what was found."""

    name: str
    ok: bool
    detail: str


def verify_release(
    path: str | os.PathLike[str],
    *,
    originals: Dataset | None = None,
    key_fingerprint: str | None = None,
    key_secrets: Sequence[bytes] = (),
    key_numbers: Sequence[np.ndarray] = (),
) -> list[Check]:
    """Re-reads a release and checks it; nothing in it is run, unpickled or followed out of the folder.

    Args:
      path: the release folder.
      originals: the images it was made from, in the same order, to measure the realised eps and compare labels.
      key_fingerprint: fingerprint of a key the release should belong to.
      key_secrets: strings of at least 8 bytes that must not be in any file as they are, in hexadecimal or in base64.
      key_numbers: arrays whose beginning must not be in any file as it is, in these forms or written out.

    Returns:
      One Check for each question asked, in a fixed order; a check that cannot be made fails.

    Raises:
      UserError: there is no such folder, or nothing of a release is in it.
      ValueError: a secret is so short that it would be found by chance.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a release")
    if not any(os.path.lexists(folder / name) for name in ("card.json", "data.npz", "manifest.csv")):
        raise UserError(f"{folder}: not a release (neither card.json nor data.npz nor manifest.csv is in it)")
    of_numbers = [forms for forms in map(forms_of_numbers, key_numbers) if forms]
    secret_forms = [*map(forms_of_secret, key_secrets), *of_numbers]
    release = _Contents(folder)
    checks = [
        _run("files", lambda: _files(release)),
        _run("data.npz hash", lambda: _hash(release, "data.npz")),
        _run("manifest.csv hash", lambda: _hash(release, "manifest.csv")),
        _run("images", lambda: _images(release)),
        _run("labels", lambda: _labels(release)),
        _run("pixel hashes", lambda: _pixel_hashes(release)),
        _run("image files", lambda: _image_files(release)),
        _run("constant images", lambda: _constant_images(release, originals)),
        _run("declared eps", lambda: _declared_eps(release)),
    ]
    if originals is not None:
        checks += [
            _run("original labels", lambda: _original_labels(release, originals)),
            _run("realised eps", lambda: _realised_eps(release, originals)),
        ]
    if key_fingerprint is not None:
        checks.append(_run("key fingerprint", lambda: _fingerprint(release, key_fingerprint)))
    checks.append(_run("key material", lambda: _key_material(release, secret_forms)))
    return checks


class _Contents:
    """The parts of a release, each read when first asked for; reading raises UserError where a part is damaged."""

    def __init__(self, folder: Path):
        self.folder = folder

    @functools.cached_property
    def card(self) -> dict[str, Any]:
        return read_card(self.folder)

    @functools.cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        return read_data(self.folder)

    @functools.cached_property
    def manifest(self) -> list[ManifestRow]:
        return read_manifest(self.folder)

    @functools.cached_property
    def entries(self) -> list[tuple[str, int]]:
        """Path within the release and mode of everything in it, links not followed."""
        return sorted(_walk(self.folder, ""))

    def images_of(self, originals: Dataset) -> np.ndarray:
        images = self.data[0]
        if images.shape != originals.images.shape:
            raise UserError(f"{list(images.shape)} released, but originals are {list(originals.images.shape)}")
        return images


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except UserError as error:
        return Check(name, False, str(error))


def _files(release: _Contents) -> str:
    entries = release.entries
    n = len(release.data[0])
    plain = {"card.json", "data.npz", "manifest.csv"}
    if any(name == "images" for name, _ in entries):
        plain |= {f"images/{index}.png" for index in range(n)}
    found = {name for name, mode in entries if stat.S_ISREG(mode)}
    other = [name for name, mode in entries if not stat.S_ISREG(mode) and not (name == "images" and stat.S_ISDIR(mode))]
    if unexpected := sorted(found - plain) + other:
        raise UserError(f"not part of a release: {_some(unexpected)}")
    if missing := sorted(plain - found):
        raise UserError(f"missing: {_some(missing)}")
    return f"{len(found)} files, all expected"


def _hash(release: _Contents, name: str) -> str:
    check_hash(release.folder, release.card, name)
    return "as in the card"


def _images(release: _Contents) -> str:
    images, labels = release.data
    check_dataset(Dataset(images, labels, tuple(release.card["class_names"])), "data.npz")
    if release.card.get("n") != len(images) or release.card.get("image_shape") != list(images.shape[1:]):
        raise UserError(f"{list(images.shape)}, but the card says otherwise (n, image_shape)")
    return f"{len(images)} of {list(images.shape[1:])}, 8 bits"


def _labels(release: _Contents) -> str:
    labels, names = release.data[1], release.card["class_names"]
    if len(release.manifest) != len(labels):
        raise UserError(f"{len(labels)} images, but {len(release.manifest)} lines in manifest.csv")
    if labels.size and (labels.min() < 0 or labels.max() >= len(names)):
        raise UserError(f"labels must lie in [0, {len(names) - 1}], but range from {labels.min()} to {labels.max()}")
    for index, (row, label) in enumerate(zip(release.manifest, labels.tolist(), strict=True)):
        # Releases of before hold formulas as they are.
        named = row.class_name in (in_a_cell(names[label]), names[label])
        if (row.index, row.label) != (index, label) or not named:
            raise UserError(f"image {index}: manifest.csv says otherwise than data.npz and the class names")
    return f"{len(labels)} in {len(names)} classes, as in the manifest"


def _pixel_hashes(release: _Contents) -> str:
    images = release.data[0]
    expected = [row.sha256 for row in release.manifest]
    if len(expected) != len(images):
        raise UserError(f"{len(images)} images, but {len(expected)} hashes in manifest.csv")
    wrong = [i for i, image in enumerate(images) if hashlib.sha256(image.tobytes()).hexdigest() != expected[i]]
    if wrong:
        raise UserError(f"pixels differ from the manifest in images {_some(wrong)}")
    return f"{len(images)} as in the manifest"


def _image_files(release: _Contents) -> str:
    if all(name != "images" for name, _ in release.entries):
        return "none in this release"
    for index, image in enumerate(release.data[0]):
        path = release.folder / "images" / f"{index}.png"
        _check_bare_png(path, width=image.shape[1], height=image.shape[0])
        if not np.array_equal(decode_image(path, where=str(path), image_size=None), image):
            raise UserError(f"{path}: not the pixels of data.npz")
    return f"{len(release.data[0])} PNG files with the pixels of data.npz"


def _check_bare_png(path: Path, *, width: int, height: int) -> None:
    """Refuses links, other sizes (before memory is set aside for them) and chunks in which anything might be hidden."""
    try:
        content = path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    position, kinds = 8, set()
    while position + 8 <= len(content) and b"IEND" not in kinds:
        length, kind = struct.unpack_from(">I4s", content, position)
        kinds.add(kind)
        position += 12 + length
    if kinds != {b"IHDR", b"IDAT", b"IEND"} or position != len(content):
        raise UserError(f"{path}: not a plain PNG file with an image and nothing else")
    if struct.unpack_from(">II", content, 16) != (width, height):
        raise UserError(f"{path}: not the size of the images in data.npz")


def _constant_images(release: _Contents, originals: Dataset | None) -> str:
    constant = _is_constant(release.data[0])
    if originals is not None:
        release.images_of(originals)
        constant &= ~_is_constant(originals.images)
    if constant.any():
        raise UserError(f"one value in every pixel of images {_some(np.flatnonzero(constant).tolist())}")
    return "none" if originals is None else "none whose original is not"


def _is_constant(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    return (flat == flat[:, :1]).all(axis=1)


def _declared_eps(release: _Contents) -> str:
    realised = release.card.get("realised_eps")
    if not isinstance(realised, dict):
        raise UserError("the card says nothing of the realised eps")
    return _compare_eps(release, realised.get("linf_levels"), realised.get("l2_max")) + " according to the card"


def _realised_eps(release: _Contents, originals: Dataset) -> str:
    quality = measure_quality(release.images_of(originals), originals.images)
    summary = quality.summary()["realised_eps"]
    detail = _compare_eps(release, summary["linf_levels"], summary["l2_max"])
    claimed = release.card.get("realised_eps")
    claims = [claimed.get(name) for name in summary] if isinstance(claimed, dict) else []
    numbers = [claim for claim in claims if _is_number(claim)]
    if len(numbers) != len(summary) or not np.allclose(numbers, list(summary.values()), rtol=1e-6):
        raise UserError(f"measured {summary}, but the card says otherwise")
    return detail + ", measured"


def _compare_eps(release: _Contents, linf_levels: Any, l2_max: Any) -> str:
    eps, norm = release.card.get("eps"), release.card.get("norm")
    if norm not in ("linf", "l2") or not (_is_number(eps) and _is_number(linf_levels) and _is_number(l2_max)):
        raise UserError("the card must hold eps, norm (linf or l2) and the realised eps as numbers")
    if norm == "linf":
        if linf_levels > 255 * eps + _TOLERANCE:
            raise UserError(f"changes of {linf_levels} grey levels, more than the declared {255 * eps:.6g}")
        return f"at most {linf_levels} of {255 * eps:.6g} grey levels"
    if l2_max > eps * (1 + _L2_TOLERANCE):
        raise UserError(f"changes of L2 norm {l2_max:.6g}, more than the declared {eps:.6g}")
    return f"L2 norm at most {l2_max:.6g} of {eps:.6g}"


def _original_labels(release: _Contents, originals: Dataset) -> str:
    if not np.array_equal(release.data[1], originals.labels):
        raise UserError("labels differ from those of the originals; are these the originals, in the same order?")
    if tuple(release.card["class_names"]) != originals.class_names:
        raise UserError("class names differ from those of the originals")
    return "those of the originals"


def _fingerprint(release: _Contents, expected: str) -> str:
    found = key_fingerprints(release.card)
    if expected not in found:
        named = f"key {_some(found)}" if found else "no key"
        raise UserError(f"the card names {named}, not {expected!r}; the release was made with another key")
    return expected


def _key_material(release: _Contents, secret_forms: Sequence[frozenset[bytes]]) -> str:
    forms = frozenset().union(*secret_forms)
    for name, mode in release.entries:
        if any(part in _KEY_NAMES or "orbax" in part.lower() for part in name.split("/")):
            raise UserError(f"{name!r}: a file of a key or checkpoint; do not publish this release")
        if stat.S_ISREG(mode) and find_secret(release.folder / name, forms):
            raise UserError(f"{name!r} holds a secret of the key; do not publish this release, make one with a new key")
    return f"none ({len(secret_forms)} secrets looked for)"


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                yield prefix + entry.name, mode
                if stat.S_ISDIR(mode):
                    yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def _is_number(value: Any) -> TypeGuard[float]:
    # A JSON integer may be too large for the arithmetic of floats.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _some(items: Sequence[Any]) -> str:
    return ", ".join(repr(item) for item in items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
