"""Images that are in a set more than once, pixel by pixel."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """How many images have the pixels of another, and where two of them are; test images come behind those of train.

    Attributes:
      across_classes: train images whose pixels are also in another class.
      within_classes: train images that are there before, in the same class.
      train_and_test: test images whose pixels are among the train images.
      examples: two places for each of the three, None where there are none.
    """

    across_classes: int
    within_classes: int
    train_and_test: int
    examples: tuple[tuple[int, int] | None, ...]

    def lines(self, name_of: Callable[[int], str]) -> Iterator[str]:
        """A line for each kind that is there.

        Args:
          name_of: what a message calls the image at a place.
        """
        texts = (
            (self.across_classes, "train images are also in another class, with the same pixels"),
            (self.within_classes, "train images are copies of another of their class"),
            (self.train_and_test, "test images are also among the train images"),
        )
        for (count, text), example in zip(texts, self.examples, strict=True):
            if example is not None:
                first, second = map(name_of, example)
                yield f"{count} {text}, such as {first} and {second}"


def duplicates(digests: np.ndarray, labels: np.ndarray, test_digests: np.ndarray | None = None) -> Duplicates:
    """Counts images of equal digests.

    Args:
      digests: of the train images, S16 [N].
      labels: of the train images, int [N].
      test_digests: of the test images, S16 [M], or None.
    """
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group] != np.arange(len(digests)))
    other_class = again[labels[first[group[again]]] != labels[again]]
    same_class = np.setdiff1d(again, other_class, assume_unique=True)
    mixed = np.isin(group, group[other_class])
    both = np.flatnonzero(np.isin(test_digests, digests)) if test_digests is not None else np.arange(0)

    def pair(found: np.ndarray) -> tuple[int, int] | None:
        return (int(first[group[found[0]]]), int(found[0])) if found.size else None

    beside = None
    if test_digests is not None and both.size:
        beside = int(np.flatnonzero(digests == test_digests[both[0]])[0]), len(digests) + int(both[0])
    return Duplicates(
        int(mixed.sum()), len(same_class), len(both), (pair(other_class), pair(same_class), beside)
    )  # fmt: skip
