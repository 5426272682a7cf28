"""Looking for key material in files, in the encodings in which it would end up there by mistake."""

import base64
import collections
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ugejax.errors import UserError

_LEAST_BYTES = 8
# Bytes of a file that are looked at together.
_CHUNK = 2**24


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


def forms_of_numbers(numbers: np.ndarray) -> frozenset[bytes]:
    """The byte strings that give an array of secret numbers away by its first ones.

    As they are, in the other byte order and in 64 bits, each in the forms of `forms_of_secret`, and written out.

    Args:
      numbers: float or integer, of any shape.

    Returns:
      None of those that would be found by chance: of few digits, or of few different bytes.
    """
    first = numbers.ravel()[:4]
    wide = first.astype(np.float64 if first.dtype.kind == "f" else np.int64)
    forms = frozenset()
    for kind in (first, wide):
        for window in (kind.tobytes()[:16], kind.byteswap().tobytes()[:16]):
            if len(set(window)) >= _LEAST_BYTES:
                forms |= forms_of_secret(window)
    # Python writes a float32 out in the digits of 64 bits, NumPy in its own.
    written = {str(number).encode() for number in (*first, *first.tolist())}
    return forms | {text for text in written if len(text) > _LEAST_BYTES}


def find_secret(path: Path, forms: Collection[bytes]) -> bool:
    """Whether a file holds any of these byte strings, each of at least 8 bytes.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    # In one pass for all: their first bytes are looked up two by two, and few places are left to look at.
    tables = np.zeros((_LEAST_BYTES // 2, 2**16), bool)
    for form in forms:
        tables[np.arange(len(tables)), np.frombuffer(form[:_LEAST_BYTES], "<u2")] = True
    by_start = collections.defaultdict(list)
    for form in forms:
        by_start[form[:_LEAST_BYTES]].append(form)
    for start in range(0, len(content), _CHUNK):
        data = np.frombuffer(content[start : start + _CHUNK + _LEAST_BYTES], np.uint8).astype(np.uint16)
        pairs = data[:-1] | data[1:] << 8
        places = np.arange(max(0, len(pairs) - _LEAST_BYTES + 2))
        for i, table in enumerate(tables):
            places = places[table[pairs[places + 2 * i]]]
        for place in places.tolist():
            place += start
            if any(content.startswith(form, place) for form in by_start[content[place : place + _LEAST_BYTES]]):
                return True
    return False
