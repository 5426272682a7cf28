"""How many images are worked on at a time, so that photographs take no more memory than as many small images."""

import math

# Pixels times channels: 1,365 images of 32x32x3, 27 of 224x224x3. In float32 16 MiB, of which a computation holds some.
VALUES = 2**22


def at_a_time(shape: tuple[int, ...], *, most: int) -> int:
    """Number of images of shape (H, W, C) to work on at a time: at least 1, at most `most`."""
    return max(1, min(most, VALUES // math.prod(shape)))
