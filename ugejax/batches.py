"""How many images a program takes at a time: fewer if they are large, so that memory stays bounded."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax

from ugejax.memory import ran_out

# Pixels times channels: 1,365 images of 32x32x3, 27 of 224x224x3. In float32 16 MiB, of which a computation holds some.
VALUES = 2**22

Result = TypeVar("Result")


def at_a_time(shape: tuple[int, ...], *, most: int) -> int:
    """Number of images of shape (H, W, C) to work on at a time: at least 1, at most `most`."""
    return max(1, min(most, VALUES // math.prod(shape)))


def in_pieces(
    work: Callable[[slice, int], Result], n: int, size: int, *, start: int = 0
) -> Iterator[tuple[slice, Result]]:
    """Work on images each of which is treated by itself, a piece of them at a time.

    Where the device's memory runs out, pieces are half as large from there on: nothing but the time depends on it.

    Args:
        work: work(slice, size) of the images of a slice, at most `size` of them; it has to wait for its result.
        n: number of images.
        size: at a time.
        start: index of the first.

    Yields:
        Each slice and its result, in order.
    """
    while start < n:
        part, results = slice(start, min(start + size, n)), []
        try:
            results.append(work(part, size))
        except jax.errors.JaxRuntimeError as error:
            if size == 1 or not ran_out(error):
                raise
            size //= 2
        # Not in the handler, whose error holds on to what lies on the device.
        for result in results:
            yield part, result
            start = part.stop
