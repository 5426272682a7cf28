"""Networks that are functions of arrays, of any library or none, where this package asks for a module of Flax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Functional:
    """A network without running statistics or dropout, as a function.

    Its variables are {"params": weights}, with weights any pytree of float arrays; where only a part of them trains,
    it is weights["head"].

    Attributes:
        apply_fn: (weights, images float [B, H, W, C] in [0, 1]) -> logits [B, K]; pure.
        features_fn: (weights, images) -> penultimate features [B, D], which the feature distance of kind "distance"
            asks for.
    """

    apply_fn: Callable[[Any, jax.Array], jax.Array]
    features_fn: Callable[[Any, jax.Array], jax.Array] | None = None

    def apply(
        self, variables: Any, x: jax.Array, train: bool = False, *, mutable: Any = False, method: str | None = None,
        rngs: Any = None,
    ) -> Any:  # fmt: skip
        """Logits, or with method "features" features; with `mutable` beside statistics, of which there are none.

        Raises:
            ValueError: features are asked for, and there is no function for them.
        """
        function = self.features_fn if method == "features" else self.apply_fn
        if function is None:
            raise ValueError("features_fn: this network has no features; give the function that computes them")
        result = function(variables["params"], x)
        return (result, {}) if mutable else result
