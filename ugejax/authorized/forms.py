"""The authorized forms by name; a new form is one file beside this one and one line in `FORMS`."""

from collections.abc import Callable
from dataclasses import dataclass

from ugejax.authorized.content import content_view
from ugejax.authorized.dither import dither_view
from ugejax.authorized.linear import linear_view
from ugejax.authorized.view import IdentityView, View
from ugejax.errors import UserError

PATCH = 4


@dataclass(frozen=True)
class Form:
    """What an authorized form decides.

    Attributes:
        view: (secret, (H, W, C), step of the quantiser or None) -> the frozen secret view, for no release yet.
        exact: whether a blind set makes gradient matching exact.
        trains: the part of the backbone that trains: "all" or "head".
        summary: one line for people.
    """

    view: Callable[[bytes, tuple[int, int, int], int | None], View]
    exact: bool
    trains: str
    summary: str


def _needs_patches(shape: tuple[int, int, int]) -> None:
    if shape[0] % PATCH or shape[1] % PATCH:
        raise UserError(
            f"images of {shape[0]}x{shape[1]} do not divide into patches of {PATCH}: use --authorized keyed-dither "
            "or another --image-size"
        )


def _linear(secret: bytes, shape: tuple[int, int, int], step: int | None) -> View:
    _needs_patches(shape)
    return linear_view(secret, shape, patch=PATCH)


def _content(secret: bytes, shape: tuple[int, int, int], step: int | None) -> View:
    _needs_patches(shape)
    return content_view(secret, shape, patch=PATCH)


def _dither(secret: bytes, shape: tuple[int, int, int], step: int | None) -> View:
    assert step is not None, "a key of this form has a step"
    return dither_view(secret, shape, step=step, anchors=max(1, min(16, shape[0] * shape[1] // 8)))


def _identity(secret: bytes, shape: tuple[int, int, int], step: int | None) -> View:
    return IdentityView()


FORMS: dict[str, Form] = {
    "keyed-dither": Form(
        _dither, True, "all", "quantised with a secret dither per image; blind within every cell (exact)"
    ),
    "keyed-linear": Form(_linear, True, "all", "a secret projection per patch; blind to a secret subspace (exact)"),
    "keyed-content": Form(
        _content, True, "all", "four secret projections, one picked per image by a secret hash (exact)"
    ),
    "frozen-backbone": Form(_identity, False, "head", "secret frozen weights, only the head trains; gradients matched"),
    "plain": Form(_identity, False, "all", "secret initialisation, all weights train; gradients matched (the paper's)"),
}


def default_step(form: str, eps: float) -> int | None:
    """The step of the quantiser for a budget eps of every value, in units of [0, 1]: 3 eps.

    A cell then leaves a perturbation of one sign 5/6 of its budget on average (with 2 eps, 3/4 of it).
    At least 2 levels, which leave a perturbation anything at all; None for the forms that do not quantise.
    """
    return min(255, max(2, round(3 * 255 * eps))) if form == "keyed-dither" else None
