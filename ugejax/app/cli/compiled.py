"""Compiled programs, kept from one start of a command to the next."""

import contextlib
import os
import shutil
import stat
import sys
import warnings
from pathlib import Path

import jax

# Seconds of compilation from which on a program is kept: looking one up takes some milliseconds.
WORTH_KEEPING = 0.01


def keep_compiled() -> None:
    """Have jax keep what it compiles, so that the same command need not compile it again when it next starts.

    In the folder `compiled` of $UGEJAX_CACHE or of the user's cache folder, for the user alone: a program may hold what
    it was made for, and whoever can write one has it run. Where that folder is another's, in `compiled-<user id>`, and
    one line says so. Where the user has named a place ($JAX_COMPILATION_CACHE_DIR), there and on his terms; where there
    is no such folder and none can be made, nowhere. Several processes may use it at a time.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        chosen = os.environ.get("UGEJAX_CACHE")
        cache = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugejax"
        cache.mkdir(parents=True, exist_ok=True)
        folder = cache / "compiled"
        if not _is_own(folder):
            other = cache / f"compiled-{os.getuid()}"
            print(f"{folder}: not this user's own folder; compiled programs are kept in {other}", file=sys.stderr)
            if not _is_own(folder := other):
                return
    except (OSError, RuntimeError):  # a home that is not there or cannot be written to
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    # What a killed process had written half is no error: it is compiled again.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's and nobody else can read or write it; made if it is not there.

    One of the user's that others could write to is emptied, and one that they could read is closed.

    Raises:
        OSError: it cannot be made, or nobody may look.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # a link leads to another's folder
        return False
    if found.st_mode & 0o022:
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return True
