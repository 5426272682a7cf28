"""The files of an arena.

arena.json                what all rows have in common, and the settings of each baseline
releases/METHOD-SEED/     one release for each method and seed
keys/uge-SEED/            the key of each that has one; private
seconds/METHOD-SEED.json  what each protection took
trainings/                those that are under way, for a run that goes on; private
results.json, results.csv, leaderboard.md, leaderboard.html
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugejax.app.arena.grid import Grid
from ugejax.app.arena.leaderboard import make_leaderboard
from ugejax.app.arena.markdown import to_markdown
from ugejax.app.arena.page import to_html
from ugejax.app.arena.plan import Job
from ugejax.app.arena.rows import COLUMNS, LATER, Row, in_order
from ugejax.app.files import replace_text
from ugejax.errors import UserError

SCHEMA = 1


@dataclass(frozen=True)
class Folder:
    """The folder of an arena; every file in it appears whole or not at all."""

    path: Path

    def release(self, job: Job) -> Path:
        """The release that a job makes or trains on."""
        return self.path / "releases" / f"{job.method}-{job.seed}"

    def key(self, job: Job) -> Path:
        """The key of that release, outside of any."""
        return self.path / "keys" / f"{job.method}-{job.seed}"

    @property
    def trainings(self) -> Path:
        """Where trainings are kept that are under way."""
        return self.path / "trainings"

    def claim(self, grid: Grid) -> dict[str, Any]:
        """What arena.json shall say, for a grid that may grow but whose rows stay comparable; nothing is written.

        Settings of which nothing was made, such as mistyped ones, bind nobody.

        Raises:
            UserError: the folder holds something else, or a grid of another source or other settings.
        """
        wanted = {
            "schema": SCHEMA,
            **grid.to_json(),
            "settings": {m: list(grid.settings.get(m, ())) for m in grid.methods},
        }
        try:
            there = json.loads((self.path / "arena.json").read_text())
            settings = dict(there["settings"])
            different = [name for name in wanted if name != "settings" and wanted[name] != there[name]]
        except (FileNotFoundError, NotADirectoryError):
            if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
                raise self._refused("exists and is no arena") from None
            return wanted
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refused(f"arena.json cannot be read ({error!r})") from error
        for name in different:
            raise self._refused(f"holds a grid with {name} {there[name]}, not {wanted[name]}")
        made = self._made()
        for method in grid.methods:
            if method in made and settings.get(method, wanted["settings"][method]) != wanted["settings"][method]:
                raise self._refused(
                    f"holds {method} with `settings` {settings[method]}, not {wanted['settings'][method]}"
                )
        return wanted | {"settings": settings | wanted["settings"]}

    def write_claim(self, claim: dict[str, Any]) -> None:
        """Write arena.json."""
        replace_text(self.path / "arena.json", _json(claim))

    def seconds(self, job: Job) -> float | None:
        """What the protection took; None where it was killed before it was noted."""
        try:
            return json.loads(self._seconds(job).read_text())["seconds"]
        except FileNotFoundError:
            return None

    def write_seconds(self, job: Job, seconds: float) -> None:
        """Note what a protection took."""
        file = self._seconds(job)
        file.parent.mkdir(exist_ok=True)
        replace_text(file, _json({"seconds": round(seconds, 2)}))

    def rows(self) -> list[Row]:
        """The rows that are there.

        Raises:
            UserError: results.json is damaged.
        """
        file = self.path / "results.json"
        try:
            return [
                {name: (dict.fromkeys(LATER) | row)[name] for name in COLUMNS}
                for row in json.loads(file.read_text())["rows"]
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: cannot be read ({error!r}); remove it, and it will be made again") from error

    def write_results(self, facts: dict[str, Any], rows: list[Row]) -> None:
        """Write the rows and the leaderboard.

        Args:
            facts: what `results.json` says of all rows: dataset, n_train, n_test, eps, epochs.
            rows: in any order.
        """
        rows = in_order(rows)
        board = make_leaderboard(rows)
        replace_text(self.path / "results.csv", _csv(rows))
        replace_text(self.path / "leaderboard.md", to_markdown(board, facts))
        replace_text(self.path / "leaderboard.html", to_html(board, facts))
        replace_text(self.path / "results.json", _json({"schema": SCHEMA, **facts, "rows": rows}))

    def _refused(self, why: str) -> UserError:
        return UserError(f"{why}; name a new folder", argument="out", value=self.path)

    def _made(self) -> set[str]:
        """The methods of which there is a release or a row."""
        releases = self.path / "releases"
        names = [path.name for path in releases.iterdir()] if releases.exists() else []
        return {name.rpartition("-")[0] for name in names} | {row["method"] for row in self.rows()}

    def _seconds(self, job: Job) -> Path:
        return self.path / "seconds" / f"{job.method}-{job.seed}.json"


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _csv(rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
