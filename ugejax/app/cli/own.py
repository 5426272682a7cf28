"""Parts of the user's own, named on the command line by the place that they are imported from."""

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ugejax.errors import UserError, one_line
from ugejax.terms import Term
from ugejax.views import FORMS, Form, register_form


def own_part(place: str, option: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """What a user names as PACKAGE.MODULE:NAME, imported.

    Args:
        place: PACKAGE.MODULE:NAME.
        option: where it was named, for messages.
        kind: what it shall be, for messages.
        fits: whether something is of that kind.

    Raises:
        UserError: it cannot be imported, or is something else.
    """
    module_name, _, name = place.partition(":")
    if os.getcwd() not in sys.path:  # a file beside the release will do; an installed command does not look there
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(f"{option} {place}: {one_line(error)}") from error
    part = getattr(module, name, None)
    if not fits(part):
        raise UserError(f"{option} {place}: {module_name} has no {kind} {name}")
    return part


def form_names(text: str, option: str = "--authorized") -> list[str]:
    """The names in a comma-separated list of forms; an own one stands there as PACKAGE.MODULE:NAME and is registered.

    Raises:
        UserError: one is unknown, or cannot be had.
    """
    return [_form_name(name.strip(), option) for name in text.split(",")]


def _form_name(text: str, option: str) -> str:
    if ":" not in text:
        if text not in FORMS:
            raise UserError(f"{option} {text}: unknown form; choose one of {', '.join(FORMS)}")
        return text
    form = own_part(text, option, "form", lambda part: isinstance(part, Form))
    try:
        register_form(form)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from error
    return form.name


def load_terms(places: Sequence[str]) -> tuple[tuple[Term, ...], list[dict[str, Any]]]:
    """Terms of the loss, and what the card and the record of a run say of them.

    A function of a `Context` is a term of weight 1 under its own name. What is said of a term holds a digest of its
    module's source, so that another function of the name is another run.

    Raises:
        UserError: one cannot be imported, or is neither a term nor a function.
    """
    terms, described = [], []
    for place in places:
        own = own_part(place, "--term", "function", lambda part: callable(part) or isinstance(part, Term))
        module_name, _, name = place.partition(":")
        term = own if isinstance(own, Term) else Term(name, 1.0, own)
        digest = hashlib.sha256(inspect.getsource(sys.modules[module_name]).encode()).hexdigest()
        terms.append(term)
        described.append({"name": term.name, "weight": term.weight, "from": place, "sha256": digest})
    return tuple(terms), described
