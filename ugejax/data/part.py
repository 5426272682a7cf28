"""One part of a source (train or test) whose labels are known before any image is decoded."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ugejax.data.dataset import Dataset, check_dataset, check_labels, stratified_subset
from ugejax.data.stream import ImageStream, open_stream
from ugejax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Labels, and how to get the images that go with them.

    Attributes:
      where: what a message calls this part.
      labels: int32 [N].
      class_names: one name per label.
      read: the images at ascending indices, as uint8 [n, H, W, C].
    """

    where: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    read: Callable[[np.ndarray], np.ndarray]

    def check(self) -> None:
        """Raises UserError where the labels are not fit for use, see `check_labels`."""
        check_labels(self.labels, self.class_names, n_images=len(self.labels), where=self.where)

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

    def stream(self, indices: np.ndarray) -> ImageStream:
        """The images at these ascending indices, checked, to be read piece by piece."""
        return open_stream(self.where, self.read, indices)
