"""MNIST and its kin as they are published: images and labels in files of the form idx, compressed or not."""

import gzip
import math
import re
import struct
from pathlib import Path

import numpy as np

from ugejax.data.account import Account, SplitUse, some
from ugejax.data.arrays import part_of_arrays
from ugejax.data.part import Opened
from ugejax.errors import UserError

_NAME = re.compile(r"(.*-)?(train|t10k|test)-(images|labels)[-.]idx([13])-ubyte(\.gz)?", re.IGNORECASE)
# Values that a file may hold: compressed, it may unpack to any size.
_MOST = 2**32


def find_idx(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """The idx files in a folder, by `train` or `test` and `images` or `labels`; empty where there are none."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if (name := _NAME.fullmatch(path.name)) and path.is_file():
            side = "train" if name[2].lower() == "train" else "test"
            found.setdefault((side, name[3].lower()), []).append(path)
    return found


def open_idx(folder: Path, files: dict[tuple[str, str], list[Path]], *, image_size: int | None) -> Opened:
    """The images and labels of such files.

    Raises:
      UserError: train images or labels are missing, of several sets, or a file is damaged.
    """
    for key in (("train", "images"), ("train", "labels")):
        if key not in files:
            raise UserError(f"{folder}: no {' '.join(key)} in the form idx beside the other files of it")
    # A file that was unpacked often lies beside the archive.
    chosen = {key: [p for p in paths if p.suffix != ".gz"] or paths for key, paths in files.items()}
    if doubled := [paths for paths in chosen.values() if len(paths) > 1]:
        names = some([path.name for path in doubled[0]])
        raise UserError(f"{folder}: holds several sets ({names}); put each into a folder of its own")
    parts = {}
    for side in ("train", "test"):
        if {(side, "images"), (side, "labels")} <= chosen.keys():
            (images,), (labels,) = chosen[side, "images"], chosen[side, "labels"]
            part, _ = part_of_arrays(str(images), _read(images, 3), _read(labels, 1), None, image_size)
            parts[side] = part, SplitUse(images.name, side, len(part.labels))
    train, test = parts["train"][0], parts["test"][0] if "test" in parts else None
    return Opened(train, test, Account("idx files", tuple(split for _, split in parts.values())))


def _read(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of a file, which declares its shape in a header of big-endian numbers.

    Raises:
      UserError: it is damaged, or of another kind.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4 + 4 * ndim)
            magic, *shape = struct.unpack(f">{1 + ndim}I", header)
            size = math.prod(shape)
            if magic != 0x0800 + ndim or size > _MOST:
                raise ValueError("another kind, or too large")
            return np.frombuffer(file.read(size), np.uint8, size).reshape(shape)
    # A damaged file makes gzip raise nearly anything.
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path}: not a whole idx file of bytes (truncated or damaged?); get it again") from error
