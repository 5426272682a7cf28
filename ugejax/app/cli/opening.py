"""Opening a key folder that a command is given, with its passphrase where it has one."""

import getpass
import os
import sys
from pathlib import Path
from typing import Any

from ugejax.app.keys import build_authorized, has_passphrase, read_key
from ugejax.app.release import key_fingerprints, salt_of
from ugejax.authorized import AuthorizedNetwork, Key
from ugejax.errors import UserError

# Characters of a passphrase: more is another file than was meant.
_LONGEST = 1000


def open_key(folder: Path, passphrase_file: Path | None = None) -> Key:
    """The key of a folder.

    Its passphrase, where it has one, is in the file, in $UGEJAX_PASSPHRASE, or typed in a terminal.

    Raises:
        UserError: it is no key or damaged, or the passphrase is missing, wrong, or for a key that has none.
    """
    if passphrase_file is not None and not has_passphrase(folder):
        raise UserError(
            f"--passphrase-file: key {folder} has no passphrase; give it one by `ugejax passphrase {folder}`"
        )
    return read_key(folder, lambda: given_passphrase(passphrase_file) or _typed(folder))


def open_network(key: Key, folder: Path, card: dict[str, Any], release: Path) -> AuthorizedNetwork:
    """The authorized network of a key and its folder, for the images of a release that the card describes.

    Raises:
        UserError: the key is not one of the release's, or its folder or the card is damaged.
    """
    if key.fingerprint not in key_fingerprints(card):
        raise UserError(f"--key {folder}: is not the key that {release} was made with")
    return build_authorized(key, folder).of_release(salt_of(card))


def given_passphrase(file: Path | None) -> str | None:
    """The passphrase in a file, else that in $UGEJAX_PASSPHRASE, else none.

    Raises:
        UserError: the file cannot be read, or holds none.
    """
    return os.environ.get("UGEJAX_PASSPHRASE") or None if file is None else read_passphrase(file, "--passphrase-file")


def read_passphrase(file: Path, option: str) -> str:
    """The one line of a file.

    Raises:
        UserError: it cannot be read, or is no line of text.
    """
    try:
        # Windows begins such files with a byte order mark, which nobody typed.
        with open(file, encoding="utf-8-sig") as lines:
            text = lines.read(_LONGEST + 1).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not text or "\n" in text or len(text) > _LONGEST:
        raise UserError(f"{option} {file}: holds no passphrase; write it as the file's one line")
    return text


def ask_passphrase(question: str, otherwise: str) -> str:
    """What somebody types, unseen.

    Raises:
        UserError: there is no terminal, with what to do then; or nothing was typed.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(otherwise)
    typed = getpass.getpass(f"{question}: ")
    if not typed:
        raise UserError("no passphrase was typed")
    return typed


def _typed(folder: Path) -> str:
    otherwise = f"--key {folder}: has a passphrase; give --passphrase-file FILE or set UGEJAX_PASSPHRASE"
    return ask_passphrase(f"Passphrase of {folder}", otherwise)
