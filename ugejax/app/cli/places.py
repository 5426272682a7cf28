"""Where a command writes, looked at before it trains for hours."""

import json
import tempfile
from pathlib import Path

from ugejax.app.cache import OTHER_CACHE, FolderCache, default_cache
from ugejax.app.cli.releasing import check_no_release
from ugejax.errors import UserError


def check_out(out: Path, own: str) -> None:
    """Refuse a folder with the results of another kind of command, which would be lost.

    Args:
        out: folder for results.json.
        own: a field of it that results of this kind have, and no others.

    Raises:
        UserError: the folder holds an arena or other results, is a release, or lies in one.
    """
    check_no_release(out)
    if (out / "arena.json").exists():
        raise UserError(f"--out {out}: holds an arena; name a new folder")
    try:
        found = json.loads((out / "results.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or own not in found:
        raise UserError(f"--out {out}: holds a results.json of something else; name a new folder or remove it")


def usable_cache(named: Path | None) -> FolderCache:
    """The folder of finished trials, made if it is not there.

    Args:
        named: by the user; None for the usual one.

    Raises:
        UserError: it cannot be written.
    """
    cache = named or default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return FolderCache(cache)
    except OSError as error:
        raise UserError(f"{cache}: cannot be written ({error.strerror}); {OTHER_CACHE}") from error
