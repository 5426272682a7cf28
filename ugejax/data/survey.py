"""A look at a source before anything long begins: what its images are, which cannot be read, which are there twice."""

import collections
import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from ugejax.data.account import Account, shown
from ugejax.data.duplicates import duplicates
from ugejax.data.image_file import Unreadable, look_and_decode, look_at, on_all_cores
from ugejax.data.kinds import READABLE
from ugejax.data.part import Part
from ugejax.data.sources import Source, open_parts
from ugejax.data.stream import digest_of, pieces

# Images whose bytes are held at a time.
_CHUNK = 256
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a source is.

    Attributes:
      account: what was found beside the images that are taken; all that cannot be read is among it.
      class_counts: train images of each class, by its name.
      n_test: number of test images.
      image_shape: (H, W, C) of the released images; None where sizes differ and no size was asked for.
      sizes: how many images there are of each (width, height), train and test; empty where headers could not be read.
      formats: how many of each format, by Pillow's names; empty for arrays.
      modes: how many of each kind of pixels, by Pillow's names; empty for arrays.
      animated: files with several pictures, of which the first is taken.
      misnamed: files of another format than their ending says.
      seconds: that decoding took; None where headers alone were read.
    """

    account: Account
    class_counts: Mapping[str, int]
    n_test: int
    image_shape: tuple[int, int, int] | None
    sizes: Mapping[tuple[int, int], int]
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    animated: tuple[str, ...]
    misnamed: tuple[str, ...]
    seconds: float | None

    @property
    def n_train(self) -> int:
        """Number of train images."""
        return sum(self.class_counts.values())


class _Found:
    """What is found image by image."""

    def __init__(self):
        self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        self.formats: collections.Counter[str] = collections.Counter()
        self.modes: collections.Counter[str] = collections.Counter()
        self.animated: list[str] = []
        self.misnamed: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.coloured = False


def survey(source: Source, *, quick: bool = False) -> Survey:
    """Looks at a source.

    Args:
      source: the source; images that cannot be read are counted, whether it says to skip them or not.
      quick: whether to read headers alone: damage behind them, and images that are there twice, are not found then.

    Raises:
      UserError: the source is not there, or cannot be made sense of.
    """
    chosen = open_parts(source, lenient=True)
    found, began = _Found(), time.monotonic()
    digests = [_look_through(chosen.train, chosen.train_indices, source.image_size, quick, found)]
    if chosen.test is not None:
        digests.append(_look_through(chosen.test, chosen.test_indices, source.image_size, quick, found))
    seconds = None if quick else time.monotonic() - began
    labels = chosen.train.labels[chosen.train_indices]
    account = chosen.account.extended(unreadable=found.failed)
    if not quick:
        train, *test = (part[part != b""] for part in digests)
        copies = duplicates(train, labels[digests[0] != b""], test[0] if test else None)
        # Of an image that was read the place among all.
        places = np.flatnonzero(np.concatenate(digests) != b"")
        account = account.extended(warnings=copies.lines(lambda index: chosen.name_of(int(places[index]))))
    counts = np.bincount(labels, minlength=len(chosen.train.class_names)).tolist()
    return Survey(
        account, dict(zip(chosen.train.class_names, counts, strict=True)), len(chosen.test_indices),
        _shape(source, found), dict(found.sizes.most_common()), dict(found.formats.most_common()),
        dict(found.modes.most_common()), tuple(found.animated), tuple(found.misnamed), seconds,
    )  # fmt: skip


def _look_through(part: Part, indices: np.ndarray, image_size: int | None, quick: bool, found: _Found) -> np.ndarray:
    """Adds what is found of a part, and returns the digests of its images, S16 [n]; empty where there is none."""
    digests = np.zeros(len(indices), "S16")
    if part.encoded is None:
        shape = part.read(indices[:1]).shape[1:]
        found.sizes[shape[1], shape[0]] += len(indices)
        found.coloured |= shape[2] == 3
        for piece in pieces(len(indices), of=shape) if not quick else ():
            digests[piece] = [digest_of(image) for image in part.read(indices[piece])]
        return digests

    def look(item):
        where, data = item
        try:
            if quick:
                return look_at(data, where=where), b"", None
            seen, image = look_and_decode(data, where=where, image_size=image_size)
            return seen, digest_of(image), image.shape[2]
        except Unreadable as error:
            return error

    with on_all_cores() as pool:
        for piece in pieces(len(indices), _CHUNK):
            items = part.encoded(indices[piece])
            for index, result in enumerate(pool.map(look, items), piece.start):
                where = items[index - piece.start][0]
                if isinstance(result, Unreadable):
                    found.failed += result.files
                    continue
                seen, digests[index], channels = result
                found.sizes[seen.size] += 1
                found.formats[seen.format] += 1
                found.modes[seen.mode] += 1
                found.coloured |= seen.mode not in _GREY if channels is None else channels == 3
                if seen.frames > 1:
                    found.animated.append(where)
                if _is_misnamed(where, seen.format):
                    found.misnamed.append(f"{shown(where)} ({seen.format})")
    return digests


def _is_misnamed(where: str, kind: str) -> bool:
    """Whether a file has an ending, and it is another format's."""
    low = where.lower()
    endings = [ending for endings in READABLE.values() for ending in endings]
    return low.endswith(tuple(endings)) and not low.endswith(READABLE[kind])


def _shape(source: Source, found: _Found) -> tuple[int, int, int] | None:
    channels = 3 if found.coloured else 1
    if source.image_size is not None:
        return source.image_size, source.image_size, channels
    if len(found.sizes) != 1:
        return None
    ((width, height),) = found.sizes
    return height, width, channels
