"""`Form`: everything that depends on an authorized form, so that no other package asks which form it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ugejax.views.view import View


@dataclass(frozen=True)
class Form:
    """An authorized form.

    Attributes:
        name: of letters, digits, _ and -; stands in keys and cards.
        view: (secret, (H, W, C), step of the quantiser or None) -> the frozen secret view, for no release yet; refuses
            shapes and steps that do not suit it by a `ugejax.errors.UserError`.
        exact: whether a blind set makes gradient matching exact.
        secret_part: what is secret in the network, for people.
        perturbation: where that leaves the perturbation, for people.
        trains: the part of the backbone that trains: "all" or "head".
        default_step: step of the quantiser in grey levels for a budget of every value in units of [0, 1]; None for a
            form that does not quantise, whose keys have no step.
        settings: its defaults of fields of `ugejax.uge.Method` where they are not the method's.
    """

    name: str
    view: Callable[[bytes, tuple[int, int, int], int | None], View]
    exact: bool
    secret_part: str
    perturbation: str
    trains: str = "all"
    default_step: Callable[[float], int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """Both in a line."""
        return f"{self.secret_part}; the perturbation {self.perturbation}"
