"""A function of the user's that cleans images, such as a diffusion model: arrays in, arrays out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData, to_uint8
from ugejax.errors import UserError, one_line


def purified(data: HackerData, *, purifier: Callable[[np.ndarray], Any]) -> HackerData:
    """All images as `purify` makes them."""
    return data.with_all_images(lambda images: purify(to_uint8(images), purifier=purifier))


def purify(images: np.ndarray, *, purifier: Callable[[np.ndarray], Any]) -> np.ndarray:
    """What a user's function makes of images, checked.

    Args:
        images: uint8 [N, H, W, C].
        purifier: purifier(images) -> as many images of the same shape, uint8 or float32 in [0, 1].

    Returns:
        Its images [N, H, W, C], uint8 or float32.

    Raises:
        UserError: it failed, or gave something else.
    """
    try:
        result = np.asarray(purifier(images.copy()))
    except Exception as error:
        raise UserError(f"purifier: failed: {one_line(error)}") from error
    if result.shape != images.shape:
        raise UserError(f"purifier: gave an array of shape {result.shape} for images of shape {images.shape}")
    if result.dtype not in (np.uint8, np.float32):
        raise UserError(f"purifier: gave {result.dtype}: images must be uint8, or float32 in [0, 1]")
    if result.dtype == np.float32:
        if not np.isfinite(result).all():
            raise UserError("purifier: gave values that are not finite")
        if result.min() < 0 or result.max() > 1:
            raise UserError(f"purifier: gave values from {result.min():g} to {result.max():g}: float32 is in [0, 1]")
    return result
