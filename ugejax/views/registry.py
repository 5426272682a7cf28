"""The authorized forms by name: a new one is one file beside this one and one line in `FORMS`, or `register_form`."""

import re

from ugejax.errors import UserError
from ugejax.views.content import KEYED_CONTENT
from ugejax.views.dither import KEYED_DITHER
from ugejax.views.form import Form
from ugejax.views.identity import FROZEN_BACKBONE, PLAIN
from ugejax.views.linear import KEYED_LINEAR

FORMS: dict[str, Form] = {
    form.name: form for form in (KEYED_DITHER, KEYED_LINEAR, KEYED_CONTENT, FROZEN_BACKBONE, PLAIN)
}
DEFAULT_FORM = KEYED_DITHER.name
_OURS = frozenset(FORMS)


def register_form(form: Form) -> None:
    """Add a form from outside the package to those that can be named; one that was added before is replaced.

    Raises:
        ValueError: its name is that of one of the package's forms, or not of letters, digits, _ and -.
    """
    if not re.fullmatch(r"[\w-]+", form.name):
        raise ValueError(f"a form's name is of letters, digits, _ and -, and not {form.name!r}")
    if form.name in _OURS:
        raise ValueError(f"a form of the package has the name {form.name!r}; take another")
    FORMS[form.name] = form


def find_form(name: str) -> Form:
    """The form of that name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMS:
        raise UserError(f"unknown authorized form {name!r}: choose one of {', '.join(FORMS)}")
    return FORMS[name]


def default_step(form: str, eps: float) -> int | None:
    """The step of a form's quantiser for a budget eps of every value, in units of [0, 1]; None where it has none.

    Raises:
        UserError: there is no form of that name.
    """
    step = find_form(form).default_step
    return step and step(eps)
