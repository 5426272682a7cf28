"""The one place where a float perturbation becomes released 8-bit images: in float, clipped and rounded once."""

from typing import Literal

import jax
import numpy as np

from ugejax.constraints.rounding import round_to_8bit
from ugejax.errors import UserError

_round = jax.jit(round_to_8bit)


def release(
    images: np.ndarray, delta: np.ndarray, *, eps: float, norm: Literal["linf", "l2", "none"], batch_size: int = 1000
) -> np.ndarray:
    """Images x + delta on the 8-bit grid, within the budget after rounding and clipping in every image.

    For "linf" delta is clipped to the ball and rounded to the nearest whole level, at most floor(255 eps) of them. For
    "l2" it must lie in the ball already; an image whose nearest rounding leaves it has its values rounded further
    towards zero, by no more than it takes.

    Args:
        images: originals, uint8 [N, H, W, C].
        delta: perturbation in units of [0, 1], float [N, H, W, C].
        eps: radius in units of [0, 1]; ignored for "none".
        norm: of the ball.
        batch_size: images at a time, for memory alone.

    Returns:
        uint8 [N, H, W, C].

    Raises:
        UserError: delta is not finite.
    """
    if not np.isfinite(delta).all():
        bad = int(np.flatnonzero(~np.isfinite(delta.reshape(len(delta), -1)).all(axis=1))[0])
        raise UserError(f"the perturbation of image {bad} is not finite; lower the step size or the learning rate")
    bound, released = eps if norm == "linf" else 1.0, []
    for start in range(0, len(images), batch_size):
        part = np.asarray(delta[start : start + batch_size], np.float32)
        if norm == "l2":
            part = _levels_within_l2(255 * part, 255 * eps) / np.float32(255)
        released.append(np.asarray(_round(images[start : start + batch_size], part, lower=-bound, upper=bound)))
    return np.concatenate(released)


def _levels_within_l2(levels: np.ndarray, radius: float) -> np.ndarray:
    """Whole levels of norm at most radius: a fraction of at least t goes away from zero, t the least that will do.

    t = 1/2 is rounding to nearest; t = 1 is rounding towards zero, which leaves no ball. The norm falls with t, so t is
    found by bisection, in sixteen steps, for each image.
    """
    magnitude = np.abs(levels).astype(np.float64)
    axes, shape = (1, 2, 3), (-1, 1, 1, 1)

    def rounded(threshold: np.ndarray) -> np.ndarray:
        return np.floor(magnitude + 1 - threshold.reshape(shape))

    def fits(threshold: np.ndarray) -> np.ndarray:
        # Whole squares: the sum is exact, and the margin only forgives the radius its last bits.
        return (rounded(threshold) ** 2).sum(axis=axes) <= radius**2 * (1 + 1e-6)

    low = np.full(len(levels), 0.5)
    high = np.where(fits(low), 0.5, 1.0)
    for _ in range(16):
        middle = (low + high) / 2
        good = fits(middle)
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return np.copysign(rounded(high), levels).astype(np.float32)


def l2_norms(delta: np.ndarray) -> np.ndarray:
    """L2 norm of each example, float64 [N], of an array [N, ...]."""
    return np.linalg.norm(delta.reshape(len(delta), -1).astype(np.float64), axis=1)


def scale_to_l2(delta: np.ndarray, eps: float) -> np.ndarray:
    """Each example scaled to L2 norm eps, float32 [N, H, W, C]; one that is all zeros stays so."""
    norms = l2_norms(delta)
    factors = np.where(norms > 0, eps / np.where(norms > 0, norms, 1), 0)
    return (delta * factors.reshape(-1, *[1] * (delta.ndim - 1))).astype(np.float32)
