"""A key on its way to a partner: encrypted to his public key in the age format (age-encryption.org/v1), by pyrage.

What is sent is the secret, what key.json says, the releases that the key has made, so that no copy of it makes another
one unasked, and the network that it begins with: not runs and generators, which are
the owner's. age says nothing of who sent it: a key that came is read as hostile.
"""

import importlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ugejax.app.checkpoint import packed_tree, unpacked_tree
from ugejax.app.keys.folder import describe_key, key_of
from ugejax.app.keys.record import Made, made_of
from ugejax.authorized.key import Key
from ugejax.authorized.network import draw_authorized
from ugejax.errors import UserError

# Between key.json, in which it cannot be, and the arrays.
_END = b"\0"


def new_identity() -> tuple[str, str]:
    """An identity, which is secret, and the public key of it, as `age-keygen` makes them."""
    identity = _age().x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def encrypted_key(key: Key, arrays: Any, public_keys: Sequence[str], releases: Sequence[Made] = ()) -> bytes:
    """What the holder of one of these public keys makes the key from; a file of age.

    Args:
        key: the key.
        arrays: `AuthorizedNetwork.arrays`.
        public_keys: age1..., at least one.
        releases: that the key has made.

    Raises:
        UserError: one is no public key.
    """
    age = _age()
    try:
        recipients = [age.x25519.Recipient.from_str(text) for text in public_keys]
    except age.RecipientError as error:
        raise UserError("not a public key of age, which begins with age1", argument="public_keys") from error
    described = json.loads(describe_key(key, None)) | {"releases": [asdict(made) for made in releases]}
    return age.encrypt(json.dumps(described).encode() + _END + packed_tree(arrays), recipients)


def decrypted_key(content: bytes, identities: Sequence[str], where: Path) -> tuple[Key, Any, list[Made]]:
    """The key that `encrypted_key` made a file from, the arrays of its network, and the releases that it has made.

    Args:
        content: the file.
        identities: AGE-SECRET-KEY-1...
        where: the file's place, for messages.

    Raises:
        UserError: an identity is none, the file is to another or was changed, or there is no sound key in it.
    """
    age = _age()
    try:
        known = [age.x25519.Identity.from_str(text) for text in identities]
        packed = age.decrypt(content, known)
    except age.IdentityError as error:
        raise UserError(
            "holds something else than identities of age (AGE-SECRET-KEY-1...)", argument="identities"
        ) from error
    except age.DecryptError as error:
        raise UserError(f"{where}: is to another public key, was changed, or is no file of age") from error
    text, _, arrays = packed.partition(_END)
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: holds no key") from error
    if not isinstance(described, dict) or "locked_secret" in described:
        raise UserError(f"{where}: holds no key")
    key = key_of(described, where)
    try:
        releases = made_of(described.get("releases", []))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: holds no record of releases") from error
    try:
        # What is compressed might unpack to any size.
        with zipfile.ZipFile(io.BytesIO(arrays)) as archive:
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    except Exception as error:  # of a damaged archive nearly anything
        raise UserError(f"{where}: holds no network") from error
    if not stored:
        raise UserError(f"{where}: holds a compressed network, which no key does")
    return key, unpacked_tree(arrays, draw_authorized(key).arrays, where), releases


def _age() -> Any:
    """The package pyrage, imported late; its names come from Rust, where no type checker sees them."""
    return importlib.import_module("pyrage")
