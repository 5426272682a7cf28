"""Which releases a key has made: a file in its folder, beside what is secret and itself no secret.

Of every release under one key a hacker sees the same anchors, stripes or subspaces, so a key is for one release. A
release is known by the digest of all that it is made from, hence the same run resumes or makes it again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ugejax.app.files import private, replaced
from ugejax.errors import UserError

_FILE = "releases.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Made:
    """A release that a key has made.

    Attributes:
        run: digest of all that it is made from, see `ugejax.app.protection.run_digest`.
        salt: of its card, 32 hexadecimal digits.
        name: last part of its path when it was made.
    """

    run: str
    salt: str
    name: str


def releases_of(folder: Path) -> list[Made]:
    """The releases that a key folder says its key has made, the first one first.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / _FILE
    try:
        content = json.loads(file.read_text())
        if content["schema"] != _SCHEMA:
            raise ValueError("of another form")
        return made_of(content["releases"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot be read ({error!r}); get the key again", argument="key", value=file) from error


def made_of(described: Sequence[Mapping[str, str]]) -> list[Made]:
    """The releases that JSON describes, each an object with the fields of `Made`.

    Raises:
        TypeError, ValueError: it describes something else.
    """
    made = [Made(**one) for one in described]
    if not all(isinstance(value, str) for one in made for value in asdict(one).values()):
        raise ValueError("of another form")
    for one in made:
        bytes.fromhex(one.salt)
    return made


def check_key_is_free(folder: Path, run: str, *, reuse: bool = False) -> None:
    """Refuse a key that has made another release, unless it is to be used again.

    Raises:
        UserError: it has.
    """
    made = releases_of(folder)
    if made and not reuse and run not in {one.run for one in made}:
        raise UserError(
            f"has made another release ({made[0].name}), and two tell more of a key than one; name a new key folder, "
            "or give `reuse_key`",
            argument="key",
            value=folder,
        )


def record_release(folder: Path, made: Made) -> None:
    """Note a release in the folder of a key, before anybody can have it.

    Raises:
        UserError: it cannot be written.
    """
    known = releases_of(folder)
    if made.run in {one.run for one in known}:
        return
    content = {"schema": _SCHEMA, "releases": [asdict(one) for one in (*known, made)]}
    with private(), replaced(folder / _FILE, otherwise="move the key to another place") as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
