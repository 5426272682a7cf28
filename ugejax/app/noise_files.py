"""The free noise of each image of a set that need not fit into memory: rows of a file, one file an epoch."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ugejax.app.checkpoint import sealed
from ugejax.app.files import private
from ugejax.app.hosts import leads
from ugejax.app.seal import HEADER_BYTES, TAG, FileCipher, Seal
from ugejax.data.stream import pieces
from ugejax.errors import UserError
from ugejax.perturbations.parametrisation import NoiseState


class NoiseFiles:
    """Float32 rows [N, H, W, C]; an epoch reads those of the epoch before it and writes a file of its own.

    An epoch that was killed can so be begun again. Before the first one the rows are those that the noise starts from.
    Of several processes, which all have the same rows in hand, the one that leads writes them.

    Attributes:
        finite: whether all that the last epoch wrote is finite.
    """

    def __init__(
        self, folder: Path, start: np.ndarray, labels: np.ndarray, *, epoch: int, seal: Seal | None = None
    ):  # fmt: skip
        """Open or make the folder.

        Args:
            folder: its parent must exist.
            start: class-wise noise, float32 [num_classes, H, W, C].
            labels: int32 [N].
            epoch: how many epochs are done; the files of others are removed.
            seal: encrypts the rows, each by itself, where it requires that; otherwise those of the last epoch may be
                encrypted.
        """
        with private():
            folder.mkdir(exist_ok=True)
        self.finite = True
        self._folder, self._start, self._labels, self._seal = folder, start, labels, seal
        self._row_bytes = 4 * math.prod(start.shape[1:])
        self._keep(epoch)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Rows of a slice or at indices, float32 [n, H, W, C], as the last epoch left them."""
        if not self._epoch:
            return self._start[self._labels[part]]
        path = self._path(self._epoch)
        with open(path, "rb") as file:
            seal = self._seal_of(path)
            stored = _Rows(file, self._row_bytes, len(self._labels), seal and seal.resume(file))
            rows = [stored.read(index) for index in np.arange(len(self._labels))[part].tolist()]
        return np.frombuffer(b"".join(rows), np.float32).reshape(-1, *self._start.shape[1:])

    @contextlib.contextmanager
    def next_epoch(self) -> Iterator[None]:
        """Within it `take` makes the next epoch's file; rows that it does not get keep their values."""
        self._taken, self._kept, self.finite = None, np.ones(len(self._labels), bool), True
        if not leads():
            yield
            self._fetch()
            return
        path = self._folder / f"{self._epoch + 1}.f32"
        path = sealed(path) if self._seal is not None and self._seal.required else path
        with contextlib.ExitStack() as stack:
            with private():
                file = stack.enter_context(open(path, "wb"))
            seal = self._seal_of(path)
            self._next = _Rows(file, self._row_bytes, len(self._labels), seal and seal.begin(file))
            yield
            self._fetch()
            kept = np.flatnonzero(self._kept)
            for part in pieces(len(kept), of=self._start.shape[1:]):
                self._write(kept[part], self[kept[part]])
            file.flush()
            os.fsync(file.fileno())

    def give(self, state: NoiseState, index: np.ndarray) -> NoiseState:
        """The state of an update of the images at indices int [B]: with their rows of the last epoch."""
        return dataclasses.replace(state, noise=self[index])

    def take(self, state: NoiseState, index: np.ndarray) -> None:
        """Take what the update has left of these rows as those of the next epoch.

        They are fetched and written by the next call, or at the epoch's end, so that devices work on a batch meanwhile.
        """
        state.noise.copy_to_host_async()
        self._fetch()
        self._taken = state.noise, index

    def _fetch(self) -> None:
        if self._taken is None:
            return
        (noise, index), self._taken = self._taken, None
        rows = np.asarray(noise)
        self._kept[index] = False
        self.finite &= bool(np.isfinite(rows).all())
        if leads():
            self._write(index, rows)

    def _write(self, index: np.ndarray, rows: np.ndarray) -> None:
        for i, row in zip(index.tolist(), rows, strict=True):
            self._next.write(i, row.tobytes())

    def advance(self) -> None:
        """Read what the next epoch wrote, now that the rest of its state is safe, and remove what it read."""
        self._keep(self._epoch + 1)

    def _keep(self, epoch: int) -> None:
        self._epoch = epoch
        if not leads():
            return
        for file in self._folder.iterdir():
            if file != self._path(epoch):
                file.unlink()

    def _path(self, epoch: int) -> Path:
        """The file of an epoch: the encrypted one where both are there, which is whole then."""
        path = self._folder / f"{epoch}.f32"
        if self._seal is not None:
            self._seal.check_plain(path)
        return sealed(path) if self._seal is not None and sealed(path).exists() else path

    def _seal_of(self, path: Path) -> Seal | None:
        return self._seal / path.stem if self._seal is not None and path.suffix == ".sealed" else None


class _Rows:
    """Rows of one size in an open file, each of which a cipher encrypts, if there is one."""

    def __init__(self, file: BinaryIO, row_bytes: int, count: int, cipher: FileCipher | None):
        self._file, self._row_bytes, self._count, self._cipher = file, row_bytes, count, cipher

    def read(self, index: int) -> bytes:
        """A row.

        Raises:
            UserError: it was encrypted and is damaged.
        """
        if self._cipher is None:
            self._file.seek(index * self._row_bytes)
            return self._file.read(self._row_bytes)
        self._file.seek(HEADER_BYTES + index * (self._row_bytes + TAG))
        encrypted = self._file.read(self._row_bytes + TAG)
        try:
            return self._cipher.decrypt(index, encrypted, last=index == self._count - 1)
        except ValueError as error:
            raise UserError(f"{self._file.name}: is damaged; remove the folder above it") from error

    def write(self, index: int, row: bytes) -> None:
        """Write a row, each once."""
        if self._cipher is None:
            self._file.seek(index * self._row_bytes)
            self._file.write(row)
        else:
            self._file.seek(HEADER_BYTES + index * (self._row_bytes + TAG))
            self._file.write(self._cipher.encrypt(index, row, last=index == self._count - 1))


def seal_rows(folder: Path, image_shape: tuple[int, int, int], seal: Seal) -> None:
    """Put encrypted files in the place of those of `NoiseFiles` of images (H, W, C); one is whole at any moment."""
    for path in folder.glob("*.f32"):
        with open(path, "rb") as rows:
            (seal / path.name).write(sealed(path), rows, chunk=4 * math.prod(image_shape))
        path.unlink()
