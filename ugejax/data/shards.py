"""Images in files of a folder, made piece by piece: what a long run has of its result so far."""

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ugejax.whole import synced


class ImageShards:
    """Images uint8 [N, H, W, C], written in their order and read by slices, of which few are in memory at a time.

    Each file holds the pixels of consecutive images and is named by the index of its first. It appears whole, so a run
    that was killed goes on from `done`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, folder: Path, shape: tuple[int, ...], *, shard_bytes: int = 2**26):
        """Open or make the folder.

        Args:
            folder: its parent must exist.
            shape: (N, H, W, C).
            shard_bytes: size from which on a file is full.
        """
        folder.mkdir(exist_ok=True)
        self.shape = shape
        self._folder, self._shard_bytes, self._starts = folder, shard_bytes, [0]
        while self._path(self.done).is_file():
            self._starts.append(self.done + self._path(self.done).stat().st_size // self._image_bytes)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def done(self) -> int:
        """How many images are there."""
        return self._starts[-1]

    def extend(self, batches: Iterable[np.ndarray]) -> None:
        """Write the images that follow the ones that are there, in batches of any size."""
        rest, partial = iter(batches), self._folder / "partial"
        for first in rest:
            partial.unlink(missing_ok=True)
            with synced(partial) as file:
                for batch in itertools.chain([first], rest):
                    file.write(batch.tobytes())
                    if file.tell() >= self._shard_bytes:
                        break
            os.rename(partial, self._path(self.done))
            self._starts.append(self.done + self._path(self.done).stat().st_size // self._image_bytes)

    def __getitem__(self, part: slice) -> np.ndarray:
        """The images of a slice without a step, uint8 [n, H, W, C]."""
        start, stop, _ = part.indices(self.done)
        return np.frombuffer(b"".join(self._read(start, stop)), np.uint8).reshape(-1, *self.shape[1:])

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        for first, end in itertools.pairwise(self._starts):
            if first < stop and start < end:
                with open(self._path(first), "rb") as file:
                    file.seek((max(start, first) - first) * self._image_bytes)
                    yield file.read((min(stop, end) - max(start, first)) * self._image_bytes)

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self.shape[1:]))

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:012d}.u8"
