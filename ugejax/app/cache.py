"""The folder in which evaluations keep the scores and answers of finished trials."""

import os
from dataclasses import dataclass
from pathlib import Path

from ugejax.app.files import replaced

# What to do where it cannot be written.
OTHER_CACHE = "choose another folder with `cache`"


@dataclass(frozen=True)
class FolderCache:
    """Scores and answers of finished trials in files of a folder, for `evaluate`; several processes may share it.

    Attributes:
        folder: made when something is written.
    """

    folder: Path

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced(self.folder / name, shared=True, otherwise=OTHER_CACHE) as file:
            file.write(content)


def default_cache() -> Path:
    """The folder that commands use: $UGEJAX_CACHE, else one in the user's cache folder."""
    if chosen := os.environ.get("UGEJAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugejax" / "trials"
