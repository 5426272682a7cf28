"""Opening what others wrote: plain files of a bounded size, and the hashes by which they are known."""

import hashlib
import stat
from pathlib import Path
from typing import BinaryIO

from ugejax.errors import UserError

# What a file may hold beside its numbers: headers, names, an archive's directory.
_MARGIN = 2**20

# The end of every complaint about size.
TOO_LARGE = "is larger than these originals allow; are they those of the set?"


def opened(path: Path, *, most: int) -> BinaryIO:
    """A plain file, open for reading.

    Args:
        path: file.
        most: bytes that its numbers may take; a file that is larger by more than a mebibyte is refused unread.

    Raises:
        UserError: it is not there, not a plain file, larger, or there is no permission to read it.
    """
    try:
        found = path.stat()
        # A pipe would never end.
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: {'a folder' if stat.S_ISDIR(found.st_mode) else 'not a plain file'}; give a file")
        if found.st_size > most + _MARGIN:
            raise UserError(f"{path}: {TOO_LARGE}")
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; check the path") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing_sha256(digests: dict[str, str]) -> str:
    """The SHA-256 of many files as one: that of the lines which `sha256sum` prints for them, in this order."""
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()
