"""The free noise of each image of a set that need not fit into memory: rows of a file, one file an epoch."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ugejax.data.stream import pieces
from ugejax.perturbation.update import NoiseState


class NoiseFiles:
    """Float32 rows [N, H, W, C]; an epoch reads those of the epoch before it and writes a file of its own.

    An epoch that was killed can so be begun again. Before the first one the rows are those that the noise starts from.

    Attributes:
        finite: whether all that the last epoch wrote is finite.
    """

    def __init__(self, folder: Path, start: np.ndarray, labels: np.ndarray, *, epoch: int):
        """Open or make the folder.

        Args:
            folder: its parent must exist.
            start: class-wise noise, float32 [num_classes, H, W, C].
            labels: int32 [N].
            epoch: how many epochs are done; the files of others are removed.
        """
        folder.mkdir(exist_ok=True)
        self.finite = True
        self._folder, self._start, self._labels = folder, start, labels
        self._row_bytes = 4 * math.prod(start.shape[1:])
        self._keep(epoch)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Rows of a slice or at indices, float32 [n, H, W, C], as the last epoch left them."""
        if not self._epoch:
            return self._start[self._labels[part]]
        with open(self._path(self._epoch), "rb") as file:
            rows = [self._read(file, index) for index in np.arange(len(self._labels))[part]]
        return np.frombuffer(b"".join(rows), np.float32).reshape(-1, *self._start.shape[1:])

    @contextlib.contextmanager
    def next_epoch(self) -> Iterator[None]:
        """Within it `take` makes the next epoch's file; rows that it does not get keep their values."""
        self._kept, self.finite = np.ones(len(self._labels), bool), True
        with open(self._path(self._epoch + 1), "wb") as self._next:
            yield
            kept = np.flatnonzero(self._kept)
            for part in pieces(len(kept)):
                self._write(kept[part], self[kept[part]])
            self._next.flush()
            os.fsync(self._next.fileno())

    def give(self, state: NoiseState, index: np.ndarray) -> NoiseState:
        """The state of an update of the images at indices int [B]: with their rows of the last epoch."""
        return dataclasses.replace(state, noise=self[index])

    def take(self, state: NoiseState, index: np.ndarray) -> None:
        """Write what the update has left of these rows as those of the next epoch."""
        rows = np.asarray(state.noise)
        self._kept[index] = False
        self.finite &= bool(np.isfinite(rows).all())
        self._write(index, rows)

    def _write(self, index: np.ndarray, rows: np.ndarray) -> None:
        for i, row in zip(index, rows, strict=True):
            self._next.seek(int(i) * self._row_bytes)
            self._next.write(row.tobytes())

    def advance(self) -> None:
        """Read what the next epoch wrote, now that the rest of its state is safe, and remove what it read."""
        self._keep(self._epoch + 1)

    def _keep(self, epoch: int) -> None:
        self._epoch = epoch
        for file in self._folder.iterdir():
            if file != self._path(epoch):
                file.unlink()

    def _read(self, file: BinaryIO, index: int) -> bytes:
        file.seek(int(index) * self._row_bytes)
        return file.read(self._row_bytes)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch}.f32"
