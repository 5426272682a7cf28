"""What who knows the program knows of codes: how the default settings lay them, but for what a secret decides."""

from collections.abc import Sequence

import numpy as np

from ugejax.perturbations.codes import Placed
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import Summed, parametrise


def known_codes(shape: tuple[int, ...]) -> tuple[Placed, ...]:
    """The codes of the default settings for images [H, W, C], those first that lie over others."""
    summed = parametrise(Method(parametrisation="codes"), shape)
    assert isinstance(summed, Summed), "codes over a texture"
    parts = [part for _, part in sorted(zip(summed.weights, summed.parts, strict=True), key=lambda one: -one[0])]
    return tuple(part for part in parts if isinstance(part, Placed))


def texture_beside(codes: Sequence[Placed], width: int) -> np.ndarray:
    """Where a class's texture is seen because no code lies there, by column and channel: bool [width, C]."""
    laid = [code.lies_in(width)[:, None] & (np.array(code.colour) != 0) for code in codes]
    return ~np.any(laid, axis=0)
