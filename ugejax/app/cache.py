"""The folder in which evaluations keep the scores and answers of finished trials."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ugejax.app.checkpoint import SpacedCheckpoints
from ugejax.app.files import replaced
from ugejax.app.seal import Seal

# What to do where it cannot be written.
OTHER_CACHE = "choose another folder with `cache`"


@dataclass(frozen=True)
class FolderCache:
    """Scores and answers of finished trials in files of a folder, for `evaluate`; several processes may share it.

    Attributes:
        folder: made when something is written.
        trainings: folder of one process or several for what of their trials is under way; None keeps nothing of it.
        seal: of what lies there, see `StepCheckpoints`.
    """

    folder: Path
    trainings: Path | None = None
    seal: Seal | None = None

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

    @contextlib.contextmanager
    def under_way(self, digest: str) -> Iterator[SpacedCheckpoints | None]:
        """Snapshots of the trial of that digest while a block trains it; see `ugejax.evaluation.cache.Cache`."""
        if self.trainings is None:
            yield None
            return
        folder = self.trainings / digest
        yield SpacedCheckpoints(folder, seal=self.seal and self.seal / digest)
        shutil.rmtree(folder, ignore_errors=True)


def default_cache() -> Path:
    """The folder that commands use: $UGEJAX_CACHE, else one in the user's cache folder."""
    if chosen := os.environ.get("UGEJAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugejax" / "trials"
