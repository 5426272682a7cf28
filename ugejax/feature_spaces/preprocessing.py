"""What image encoders are given: images scaled, cropped and normalised as in their training, differentiably."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images become an encoder's input.

    Attributes:
        short_side: length to which the shorter side is scaled.
        crop: side of the square that is cut out of the middle, at most `short_side`.
        mean: per-channel mean that is subtracted.
        std: per-channel scale that is divided by.
    """

    short_side: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images float [B, H, W, 1 or 3] in [0, 1] as normalised squares [B, crop, crop, 3].

        Bicubic with antialiasing, as Pillow does it, clipped to [0, 1] but not rounded to 8 bits, so that gradients
        pass; a grey image becomes RGB.
        """
        batch, height, width, _ = x.shape
        x = jnp.broadcast_to(x, (batch, height, width, 3))
        short = min(height, width)
        rows, columns = (self.short_side * side // short for side in (height, width))
        if (rows, columns) != (height, width):
            x = jnp.clip(jax.image.resize(x, (batch, rows, columns, 3), "cubic"), 0, 1)
        top, left = (rows - self.crop) // 2, (columns - self.crop) // 2
        x = x[:, top : top + self.crop, left : left + self.crop]
        return (x - jnp.asarray(self.mean, x.dtype)) / jnp.asarray(self.std, x.dtype)
