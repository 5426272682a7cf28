"""What a hacker has in hand, and what a countermeasure turns into something else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images before and after a protection; two are the same only if they are one object.

    Attributes:
        originals: uint8, or float32 in units of [0, 1], [P, H, W, C].
        released: likewise.
    """

    originals: np.ndarray
    released: np.ndarray


@dataclass(frozen=True, eq=False)
class HackerData:
    """A hacker's images; a countermeasure's `prepare` returns them changed.

    Images are uint8, or float32 in units of [0, 1]: what is computed may leave that range and is not rounded, since a
    rounding error that a class has in common would be learned.

    Attributes:
        images: training images [N, H, W, C]: the released ones, or the originals where the clean control is trained.
        labels: int32 [N].
        test_images: clean test images [M, H, W, C], as his network shall see them.
        reference: natural images of the same kind [R, H, W, C] without labels. An evaluation gives the clean test
            images, which is generous: a hacker would have to collect them, and knows what he is tested on.
        clean_images: the originals that he holds [S, H, W, C].
        clean_indices: int [S], which of the training images they are the originals of.
        seed: of what he draws at random.
        own_pairs: gives natural images beside what the owner's program makes of them, with the settings of the release
            and under keys of the hacker's own; None where he does not know how the release was made.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    reference: np.ndarray
    clean_images: np.ndarray
    clean_indices: np.ndarray
    seed: int = 0
    own_pairs: Callable[[], Pairs] | None = None

    @property
    def clean_labels(self) -> np.ndarray:
        """Labels int32 [S] of the originals that he holds."""
        return self.labels[self.clean_indices]

    def with_all_images(self, change: Callable[[np.ndarray], np.ndarray]) -> "HackerData":
        """The same change of all images: for training, for tests, natural ones, clean originals and pairs."""
        test_images, make = change(self.test_images), self.own_pairs

        def own_pairs() -> Pairs:
            assert make is not None
            pairs = make()
            return Pairs(change(pairs.originals), change(pairs.released))

        return replace(
            self,
            images=change(self.images),
            test_images=test_images,
            reference=test_images if self.reference is self.test_images else change(self.reference),
            clean_images=change(self.clean_images) if len(self.clean_images) else self.clean_images,
            own_pairs=None if make is None else own_pairs,
        )


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images on the 8-bit grid: float in units of [0, 1] is rounded and clipped, uint8 is left alone."""
    if images.dtype == np.uint8:
        return images
    return np.clip(np.round(255 * images), 0, 255).astype(np.uint8)
