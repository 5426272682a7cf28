"""Images in files of a folder, made piece by piece: what a long run has of its result so far."""

import bisect
import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ugejax.app.files import private, synced


class ImageShards:
    """Images uint8 [N, H, W, C], written in runs and read by slices, of which few are in memory at a time.

    Each file holds the pixels of consecutive images and is named by the index of its first. It appears whole, so a run
    that was killed goes on with what is `missing`. Several processes may write, each other images. All is for its owner
    alone: nothing of it is released yet.
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
        with private():
            folder.mkdir(exist_ok=True)
        self.shape = shape
        self._folder, self._shard_bytes = folder, shard_bytes
        self._files = self._look()

    def __len__(self) -> int:
        return self.shape[0]

    def missing(self, part: slice = slice(None)) -> list[slice]:
        """The images of a slice that nobody has written yet, as ascending slices."""
        self._files = self._look()
        position, end, _ = part.indices(len(self))
        gaps = []
        for start, stop in [*self._files, (end, end)]:
            if position < min(start, end):
                gaps.append(slice(position, min(start, end)))
            position = max(position, stop)
        return gaps

    def write(self, start: int, batches: Iterable[np.ndarray]) -> None:
        """Write missing images, the first of which has this index, in batches of any size."""
        rest, partial = iter(batches), self._folder / f"{socket.gethostname()}-{os.getpid()}.partial"
        for first in rest:
            partial.unlink(missing_ok=True)
            with contextlib.ExitStack() as stack:
                with private():
                    file = stack.enter_context(synced(partial))
                for batch in itertools.chain([first], rest):
                    file.write(batch.tobytes())
                    if file.tell() >= self._shard_bytes:
                        break
                images = file.tell() // self._image_bytes
            os.rename(partial, self._path(start))
            bisect.insort(self._files, (start, start + images))
            start += images

    def __getitem__(self, part: slice) -> np.ndarray:
        """The images of a slice without a step, none of which is missing, uint8 [n, H, W, C]."""
        start, stop, _ = part.indices(len(self))
        return np.frombuffer(b"".join(self._read(start, stop)), np.uint8).reshape(-1, *self.shape[1:])

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        for first, end in self._files:
            if first < stop and start < end:
                with open(self._path(first), "rb") as file:
                    file.seek((max(start, first) - first) * self._image_bytes)
                    yield file.read((min(stop, end) - max(start, first)) * self._image_bytes)

    def _look(self) -> list[tuple[int, int]]:
        """Of each file the index of its first image and of the one behind its last, ascending."""
        starts = sorted((int(path.stem), path) for path in self._folder.glob("*.u8"))
        return [(start, start + path.stat().st_size // self._image_bytes) for start, path in starts]

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self.shape[1:]))

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:012d}.u8"
