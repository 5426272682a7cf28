"""What who knows the program knows of codes: how the default settings lay them, but for what a secret decides."""

from dataclasses import dataclass

import numpy as np

from ugejax.perturbations.codes import Placed
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import Striped, Summed, parametrise


@dataclass(frozen=True)
class KnownCodes:
    """The parts of a release of codes.

    Attributes:
        placed: the codes, those first that lie over others.
        stripes: what is laid beside them.
    """

    placed: tuple[Placed, ...]
    stripes: Striped

    def beside(self, width: int) -> np.ndarray:
        """Whether no code lies in a column of images of that width, so that stripes are seen there: bool [W]."""
        return ~np.any([code.lies_in(width) for code in self.placed], axis=0)


def known_codes(shape: tuple[int, ...]) -> KnownCodes:
    """The codes of the default settings for images [H, W, C]."""
    summed = parametrise(Method(parametrisation="codes"), shape)
    assert isinstance(summed, Summed), "codes and stripes"
    parts = [part for _, part in sorted(zip(summed.weights, summed.parts, strict=True), key=lambda one: -one[0])]
    (stripes,) = (part for part in parts if isinstance(part, Striped))
    return KnownCodes(tuple(part for part in parts if isinstance(part, Placed)), stripes)
