"""The counter-measures by name."""

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ugejax.countermeasures.adaptive import orthogonal_projection, subtract_class_means, whitened_key_recovery
from ugejax.countermeasures.preprocessing import bit_depth, blur, grey, jpeg
from ugejax.errors import UserError


@dataclass(frozen=True)
class Countermeasure:
    """What a hacker does before or while he trains.

    Attributes:
        preprocess: uint8 images -> uint8 images, for training and test images alike; None for nothing.
        adapt: (uint8 images, labels) -> uint8 images, for the training images only; None for nothing.
        augment: whether training crops and flips at random.
    """

    preprocess: Callable[[np.ndarray], np.ndarray] | None = None
    adapt: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    augment: bool = False

    def train_images(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The images that the hacker trains on."""
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images if self.adapt is None else self.adapt(images, labels)

    def test_images(self, images: np.ndarray) -> np.ndarray:
        """Clean test images as the hacker's network sees them."""
        return images if self.preprocess is None else self.preprocess(images)


COUNTERMEASURES: dict[str, Countermeasure] = {
    "none": Countermeasure(),
    "crop-flip": Countermeasure(augment=True),
    "grey": Countermeasure(preprocess=grey),
    "blur": Countermeasure(preprocess=blur),
    "bdr": Countermeasure(preprocess=functools.partial(bit_depth, bits=2)),
    "jpeg-10": Countermeasure(preprocess=functools.partial(jpeg, quality=10)),
    "jpeg-30": Countermeasure(preprocess=functools.partial(jpeg, quality=30)),
    "class-means": Countermeasure(adapt=subtract_class_means),
    "orthogonal-projection": Countermeasure(adapt=orthogonal_projection),
    "key-recovery": Countermeasure(adapt=whitened_key_recovery),
}


def parse_countermeasures(names: str) -> list[str]:
    """A comma-separated list of names, checked.

    Raises:
        UserError: a name is unknown.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in COUNTERMEASURES:
            close = difflib.get_close_matches(name, COUNTERMEASURES, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"--countermeasures: unknown {name!r}: {hint}choose among {', '.join(COUNTERMEASURES)}")
    if not chosen:
        raise UserError("--countermeasures: names none; `none` stands for training without any")
    return chosen
