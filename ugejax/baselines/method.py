"""What every baseline is: one function of arrays and a key, its settings, and what the field has to know about it."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import numpy as np

from ugejax.errors import UserError
from ugejax.reporting import Report

# Published radii of the L2 ball are for CIFAR's images.
CIFAR_VALUES = 32 * 32 * 3


class Baseline(Protocol):
    """Released images from originals; the same key and arguments give the same bytes on the same machine."""

    def __call__(
        self,
        key: jax.Array,
        images: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        eps: float,
        settings: Any,
        report: Report,
    ) -> np.ndarray:
        """Protect images.

        Args:
            key: typed PRNG key, from which everything random follows.
            images: originals, uint8 [N, H, W, C].
            labels: int32 [N] in [0, num_classes).
            num_classes: K, at least 2.
            eps: radius of the budget in units of [0, 1]; a baseline without a budget leaves it alone.
            settings: an instance of the baseline's frozen dataclass.
            report: called with the stage's name, how much of it is done, of how much, and figures.

        Returns:
            Released images, uint8 [N, H, W, C].
        """
        ...


@dataclass(frozen=True)
class BaselineMethod:
    """A baseline as the registry lists it.

    Attributes:
        run: the baseline.
        settings: its default settings, an instance of its frozen dataclass; what the paper used is in the docstring of
            that class.
        summary: one line for people.
        norm: of the budget: "linf", "l2" (per image), or "none" where the method is not bound by a radius.
        eps: the published radius in units of [0, 1], for "l2" that of 32x32x3 images; None where there is no budget.
        surrogates: whether it trains surrogate networks.
    """

    run: Baseline
    settings: Any
    summary: str
    norm: Literal["linf", "l2", "none"]
    eps: float | None
    surrogates: bool

    def default_eps(self, shape: tuple[int, int, int]) -> float | None:
        """The published radius for images of shape (H, W, C), None without a budget.

        An L2 radius grows with the square root of the number of values, so that their mean square stays: the rule by
        which LSP's is made from 6/255; for AR's it is our choice.
        """
        if self.eps is None or self.norm != "l2":
            return self.eps
        return self.eps * math.sqrt(math.prod(shape) / CIFAR_VALUES)

    def protect(
        self,
        key: jax.Array,
        images: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        eps: float | None = None,
        settings: Any = None,
        report: Report = lambda *_: None,
    ) -> np.ndarray:
        """Check the arguments, fill in the defaults and run the baseline.

        Args:
            key: as for `Baseline`, likewise images, labels, num_classes and report.
            images: uint8 [N, H, W, C], N at least 1.
            labels: integers [N].
            num_classes: K.
            eps: radius in units of [0, 1]; None takes `default_eps`.
            settings: None takes the defaults.
            report: progress.

        Returns:
            Released images, uint8 [N, H, W, C].

        Raises:
            UserError: an eps for a method that has no budget, or one outside of (0, 1] (for "l2", not positive).
            TypeError: images are not uint8, or the settings are those of another baseline.
            ValueError: shapes do not fit together, or a label is out of range.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"originals must be uint8, not {images.dtype}")
        if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
            raise ValueError(f"images {images.shape} and labels {labels.shape} must be [N, H, W, C] and [N], N > 0")
        if num_classes < 2 or labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f"labels {labels.min()} to {labels.max()} must lie in [0, {num_classes}), of 2 classes up")
        settings = self.settings if settings is None else settings
        if type(settings) is not type(self.settings):
            raise TypeError(f"settings must be a {type(self.settings).__name__}, not a {type(settings).__name__}")
        if eps is not None and self.norm == "none":
            raise UserError("this method is not bound by a budget; leave it out", argument="eps")
        if eps is not None and not (eps > 0 and (self.norm == "l2" or eps <= 1)):
            raise UserError(
                "must be above 0 and, for norm linf, at most 1; images are in [0, 1]", argument="eps", value=eps
            )
        if eps is None:
            height, width, channels = images.shape[1:]
            eps = self.default_eps((height, width, channels))
        radius = 1.0 if eps is None else eps  # images cannot move by more than 1
        return self.run(key, images, labels.astype(np.int32), num_classes, eps=radius, settings=settings, report=report)


@dataclass(frozen=True)
class NoSettings:
    """The settings of a baseline that has none."""
