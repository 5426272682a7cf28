"""`frozen-backbone` and `plain`: no secret view; the secret is the network's weights, and gradients are matched.

`plain` is the paper's authorized network, whose initialisation alone is secret.
"""

from dataclasses import dataclass

import jax

from ugejax.views.form import Form
from ugejax.views.view import View


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IdentityView(View):
    """No secret part: the backbone sees the image itself, and nothing is invisible to it."""

    hides = False

    def apply(self, x: jax.Array) -> jax.Array:
        """The images themselves."""
        return x


def _identity(secret: bytes, shape: tuple[int, int, int], step: int | None) -> IdentityView:
    return IdentityView()


# What is not blind can only be matched by optimisation.
_OPTIMISED = {"epochs": 15}

FROZEN_BACKBONE = Form(
    "frozen-backbone",
    _identity,
    exact=False,
    secret_part="secret frozen weights, only the head trains",
    perturbation="optimised: gradient matching + feature distance",
    trains="head",
    settings=_OPTIMISED,
)
PLAIN = Form(
    "plain",
    _identity,
    exact=False,
    secret_part="the initialisation alone, as in the paper",
    perturbation="optimised: gradient matching + feature distance",
    settings=_OPTIMISED,
)
