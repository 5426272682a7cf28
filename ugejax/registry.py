"""Look-up of entries by name, with one error message for names that are not there."""

import difflib
from collections.abc import Collection, Mapping
from typing import TypeVar

from ugejax.errors import UserError

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """Entries of one kind by name, in the order in which they are shown.

    An entry from outside the package is set like those of any mapping, `NETWORKS["mine"] = Network(...)`, and is found
    from then on wherever a name is.

    Attributes:
        kind: what an entry is, for messages: "network".
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]):
        """Hold entries of that kind."""
        super().__init__(entries)
        self.kind = kind

    def find(self, name: str, argument: str | None = None) -> Entry:
        """The entry of that name.

        Args:
            name: what was asked for.
            argument: name of the argument that it was given for, such as "method"; None leaves it to the kind to say
                what is unknown.

        Raises:
            UserError: there is none; the message names the closest, and all that there are.
        """
        if name not in self:
            raise unknown(name, self, kind=f"{self.kind} " if argument is None else "", argument=argument)
        return self[name]


def unknown(
    name: str, known: Collection[str], *, kind: str = "", choices: str | None = None, argument: str | None = None,
    value: object = None,
) -> UserError:  # fmt: skip
    """The error that names what was not found, the closest of what is known, and the choices.

    Args:
        name: what was asked for.
        known: all names that would have been found.
        kind: what they name, such as "network ".
        choices: the names in words, where they are not a mere list.
        argument: name of the argument that the name was given for, see `UserError`.
        value: see `UserError`.
    """
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    choices = choices or ", ".join(known)
    return UserError(f"unknown {kind}{name!r}: {hint}choose one of {choices}", argument=argument, value=value)


def split_names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, each once, in their order; blanks around them do not count."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
