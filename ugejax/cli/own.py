"""Parts of a user's own, named on the command line as PACKAGE.MODULE:NAME."""

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

from ugejax.countermeasures.purifier import one_line
from ugejax.errors import UserError
from ugejax.terms import Term


def load_own(name: str, argument: str) -> Any:
    """What a user wrote, from a module that is installed or lies in the working folder.

    Args:
        name: PACKAGE.MODULE:NAME.
        argument: the argument that it was given for, for messages.

    Raises:
        UserError: the module fails to be imported, or has no such function or object that can be called.
    """
    module_name, _, function_name = name.partition(":")
    sys.path.append(os.getcwd())  # a file beside the release will do; an installed command does not look there
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(f"{argument} {name}: {one_line(error)}") from error
    own = getattr(module, function_name, None)
    if not (callable(own) or isinstance(own, Term)):
        raise UserError(f"{argument} {name}: {module_name} has no function {function_name}")
    return own


def load_terms(names: Sequence[str]) -> tuple[tuple[Term, ...], list[dict[str, Any]]]:
    """Terms of the loss, and what the card and the record of a run say of them.

    A function of a `Context` is a term of weight 1 under its own name. What is said of a term holds a digest of its
    module's source, so that another function of the name is another run.
    """
    terms, described = [], []
    for name in names:
        own = load_own(name, "--term")
        term = own if isinstance(own, Term) else Term(name.partition(":")[2], 1.0, own)
        source = inspect.getsource(sys.modules[name.partition(":")[0]])
        digest = hashlib.sha256(source.encode()).hexdigest()
        terms.append(term)
        described.append({"name": term.name, "weight": term.weight, "from": name, "sha256": digest})
    return tuple(terms), described
