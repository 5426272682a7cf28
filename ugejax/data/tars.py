"""WebDataset's archives: plain .tar files in which an image `key.jpg` lies beside its label `key.cls`."""

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ugejax.data.account import Account, SplitUse, shown
from ugejax.data.image_file import decode_images
from ugejax.data.kinds import READABLE_ENDINGS
from ugejax.data.part import Encoded, Opened, Part
from ugejax.errors import UserError

_TEST = ("test", "validation", "valid", "val")
# Bytes that a label may take.
_LABEL = 1000


def find_tars(folder: Path) -> list[Path]:
    """The .tar files of a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file())


def open_tars(where: Path, paths: Sequence[Path], *, image_size: int | None) -> Opened | None:
    """The images and labels of such archives; None where no label lies in the first of them.

    Archives with `test`, `validation`, `valid` or `val` in their names hold the test images, if others are there.

    Raises:
      UserError: one is damaged, or an image has no label.
    """
    sides: dict[str, list[Path]] = {"train": [], "test": []}
    for path in paths:
        words = re.split(r"[^a-z]+", path.stem.lower())
        sides["test" if set(words) & {*_TEST} else "train"].append(path)
    if not sides["train"]:
        sides = {"train": sides["test"], "test": []}
    found = {side: [sample for path in named for sample in _samples(path)] for side, named in sides.items()}
    if not any(label for *_, label in found["train"]):
        return None
    texts = sorted({label for samples in found.values() for *_, label in samples if label})
    numbers = all(text.isdecimal() and text.isascii() for text in texts)
    names = tuple(str(i) for i in range(min(max(map(int, texts)) + 1, 10**6))) if numbers else tuple(texts)
    label_of = {text: int(text) if numbers else place for place, text in enumerate(texts)}
    parts = {
        side: _part(f"{shown(where)}, {side}", samples, label_of, names, image_size)
        for side, samples in found.items()
        if samples
    }
    uses = tuple(SplitUse(f"{len(sides[side])} .tar", side, len(part.labels)) for side, part in parts.items())
    return Opened(parts["train"], parts.get("test"), Account("WebDataset archives", uses))


def _samples(path: Path) -> list[tuple[str, Path, int, int, str]]:
    """Of each image its name, the archive, where its bytes begin in it and how many there are, and its label or ""."""
    images: dict[str, tuple[str, Path, int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                key, ending = _split(member.name)
                if not member.isreg():
                    continue
                if ending == ".cls" and member.size <= _LABEL:
                    file = archive.extractfile(member)
                    labels[key] = file.read().decode().strip() if file is not None else ""
                elif ending in READABLE_ENDINGS:
                    name = f"{shown(path)}/{shown(member.name)}"
                    images[key] = (name, path, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{shown(path)}: not a whole .tar archive (truncated or damaged?); get it again") from error
    return [(*image, labels.get(key, "")) for key, image in images.items()]


def _split(name: str) -> tuple[str, str]:
    """The key of a sample, up to the first dot of the last part, and the last ending."""
    folder, last = os.path.split(name)
    return f"{folder}/{last.partition('.')[0]}", os.path.splitext(last)[1].lower()


def _part(
    where: str,
    samples: Sequence[tuple[str, Path, int, int, str]],
    label_of: dict[str, int],
    names: tuple[str, ...],
    image_size: int | None,
) -> Part:
    if without := [name for name, *_, label in samples if not label]:
        raise UserError(f"{without[0]}: has no label beside it (.cls), as {len(without)} images; add or remove them")

    def encoded(indices: np.ndarray) -> Encoded:
        items = []
        for name, path, offset, size, _ in (samples[i] for i in indices):
            with open(path, "rb") as file:
                file.seek(offset)
                items.append((name, file.read(size)))
        return items

    def read(indices: np.ndarray) -> np.ndarray:
        return decode_images(len(indices), lambda start, stop: encoded(indices[start:stop]), image_size=image_size)

    return Part(where, np.array([label_of[label] for *_, label in samples], np.int32), names, read, encoded)
