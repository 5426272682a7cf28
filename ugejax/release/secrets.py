"""Looking for key material in files, in the encodings in which it would end up there by mistake."""

import base64
from collections.abc import Iterable
from pathlib import Path

from ugejax.errors import UserError

_LEAST_BYTES = 8


def forms_of_secret(secret: bytes) -> frozenset[bytes]:
    """The byte strings that give a secret away: itself, hexadecimal, and base64 at each of its three alignments.

    Raises:
      ValueError: it has less than 8 bytes and would be found by chance.
    """
    if len(secret) < _LEAST_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes would be found by chance; give at least {_LEAST_BYTES}")
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for before in range(3):
        # Of the characters at both ends, those that depend on what stands beside the secret are left out.
        first, last = (8 * before + 5) // 6, (8 * (before + len(secret))) // 6
        padded = bytes(before) + secret
        forms |= {base64.b64encode(padded)[first:last], base64.urlsafe_b64encode(padded)[first:last]}
    return frozenset(forms)


def find_secret(path: Path, secret_forms: Iterable[frozenset[bytes]]) -> bool:
    """Whether a file holds any form of any of these secrets.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    return any(form in content for forms in secret_forms for form in forms)
