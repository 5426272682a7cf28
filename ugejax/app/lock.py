"""A lock that lets one run at a time write into a folder: two would delete each other's checkpoints."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ugejax.errors import UserError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder that exists; the system lets go of it when the process ends, however it ends.

    Raises:
        UserError: another run holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another run is at work in this folder; wait for it or stop it") from None
        yield
    finally:
        os.close(descriptor)
