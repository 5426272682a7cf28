"""One part of a source (train or test) whose labels are known before any image is decoded."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from ugejax.data.account import Account
from ugejax.data.dataset import Dataset, check_dataset, check_labels, stratified_subset
from ugejax.data.stream import ImageStream, OfEach, open_stream
from ugejax.errors import UserError

Encoded = Sequence[tuple[str, Path | bytes]]


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Labels, and how to get the images that go with them.

    Attributes:
      where: what a message calls this part.
      labels: int32 [N].
      class_names: one name per label.
      read: the images at ascending indices, as uint8 [n, H, W, C].
      encoded: of the images at indices what a message calls each, and its file or its bytes; None for arrays.
    """

    where: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    read: Callable[[np.ndarray], np.ndarray]
    encoded: Callable[[np.ndarray], Encoded] | None = None

    def check(self) -> None:
        """Raises UserError where the labels are not fit for use, see `check_labels`."""
        check_labels(self.labels, self.class_names, n_images=len(self.labels), where=self.where)

    def name(self, index: int) -> str:
        """What a message calls the image at an index."""
        return f"image {index}" if self.encoded is None else self.encoded(np.array([index]))[0][0]

    def only(self, kept: np.ndarray) -> Self:
        """The part with the images at these ascending indices alone."""
        read, encoded = self.read, self.encoded
        return dataclasses.replace(
            self, labels=self.labels[kept], read=lambda indices: read(kept[indices]),
            encoded=None if encoded is None else lambda indices: encoded(kept[indices]),
        )  # fmt: skip

    def subset(self, n: int | None, seed: int) -> np.ndarray:
        """Indices of a stratified subset of n, or of everything for None."""
        if n is None:
            return np.arange(len(self.labels))
        try:
            return stratified_subset(self.labels, n, seed)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error

    def dataset(self, indices: np.ndarray) -> Dataset:
        """Decodes and checks the images at these ascending indices."""
        dataset = Dataset(self.read(indices), self.labels[indices], self.class_names)
        check_dataset(dataset, self.where)
        return dataset

    def stream(self, indices: np.ndarray, of_each: OfEach = map) -> ImageStream:
        """The images at these ascending indices, checked, to be read piece by piece; see `open_stream`."""
        return open_stream(self.where, self.read, indices, of_each=of_each)


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A source whose labels are known and whose images are not decoded yet.

    Attributes:
      train: images to train on.
      test: test images, None where the source has none.
      account: what else was found in it.
    """

    train: Part
    test: Part | None
    account: Account
