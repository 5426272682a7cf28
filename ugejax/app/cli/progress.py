"""Progress: a live line in a terminal, plain lines where there is none, and lines of JSON where they are asked for."""

import contextlib
import datetime
import json
import logging
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ugejax.app.duration import duration
from ugejax.errors import UserError

# Seconds below which what is reported was not done now but found finished, in a cache: it says nothing of the pace.
AT_ONCE = 1e-3

# Whole lines, whoever else of the process writes some.
_LOG = logging.getLogger("ugejax.progress")
_LOG.propagate = False


class _File(logging.FileHandler):
    """A file of which a reader may rely on every line being there."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the library's name
        """Raise what logging would print and forget."""
        raise UserError(f"--log-json {self.baseFilename}: cannot be written ({sys.exc_info()[1]})")


def log_to(file: Path) -> logging.FileHandler:
    """Append a line of JSON to a file for each report from now on; `stop_logging` ends it.

    A line has time (UTC, for people: all lengths of time are of a clock that nobody sets), stage, done and of (of the
    stage's steps), share (of the whole), elapsed_seconds, per_second (steps of the stage), remaining_seconds (of the
    whole) and figures; what is not known yet is null.
    """
    handler = _File(file, encoding="utf-8")
    follow(handler)
    return handler


def stop_logging(handler: logging.FileHandler) -> None:
    """End what `log_to` began; a file without a line is taken away."""
    stop_following(handler)
    file = Path(handler.baseFilename)
    if file.is_file() and not file.stat().st_size:
        file.unlink()


def follow(handler: logging.Handler) -> None:
    """Have each report handled from now on: as text, and as what the text says in the record's attribute `report`."""
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)


def stop_following(handler: logging.Handler) -> None:
    """End what `follow` began."""
    _LOG.removeHandler(handler)
    with contextlib.suppress(OSError):  # what could not be written was said when it was
        handler.close()


class Reporter:
    """One bar over work of known length. Use as a context manager."""

    def __init__(self, console: Console, *, estimates: bool = True):
        """Report to a console; without a terminal, or in CI, a line at most every ten seconds.

        Args:
            console: where to.
            estimates: whether to estimate the time that remains by the share that is done.
        """
        self._console = console
        self._live = console.is_terminal and not os.environ.get("CI")
        self._estimates = estimates
        self._last = 0.0
        self._began: float | None = None
        self._seen = 0.0, 0.0  # when the share last grew, and to what
        self._spent, self._gained = 0.0, 0.0  # seconds, and the share that was done in them
        self._stage: tuple[str, float, int] | None = None  # which, since when, and its step then
        self._reports = 0  # of the stage
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")]
        columns += [TimeElapsedColumn(), TimeRemainingColumn()][: 1 + estimates]
        self._progress = Progress(*columns, console=console, disable=not self._live, transient=True)
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> "Reporter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(
        self, share: float, text: str, *, stage: str | None = None, done: int = 0, of: int = 0,
        figures: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        """Show how far the work has come.

        Args:
            share: of all of it, in [0, 1].
            text: what it does now.
            stage: the part of it that has come to a step; None where nothing is to be logged.
            done: steps of the stage that are done.
            of: steps of the stage.
            figures: that matter now, by name.
        """
        now = time.monotonic()
        if self._began is None:
            self._began, self._seen = now, (now, share)
        self._count(now, share)
        if stage is not None and (self._stage is None or self._stage[0] != stage):
            self._stage, self._reports = (stage, now, done), 0
        self._reports += 1
        elapsed, pace, rest = now - self._began, self._pace(now, done), self._remaining(share)
        if stage is not None:
            line = {
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "stage": stage, "done": done,
                "of": of, "share": round(share, 4), "elapsed_seconds": round(elapsed, 2), "per_second": pace,
                "remaining_seconds": rest, "figures": figures or {},
            }  # fmt: skip
            _LOG.info("%s", json.dumps(line), extra={"report": line})
        if stage is not None and pace:
            text += f", {pace:.1f} a second" if pace >= 1 else f", {1 / pace:.1f} s each"
        if self._live:
            self._progress.update(self._task, completed=share, description=text)
        elif now - self._last > 10:
            self._last = now
            left = "" if rest is None else f", about {duration(rest)} left"
            self._console.print(f"{share:4.0%} {text}{left}", highlight=False)

    def stage(self, name: str, done: int, of: int, figures: dict[str, float]) -> None:
        """Show how far a stage has come, and its figures."""
        shown = " ".join(f"{k} {v:.4f}" for k, v in figures.items())
        self.update(done / of, f"{name} {done}/{of} {shown}", stage=name, done=done, of=of, figures=figures)

    def _count(self, now: float, share: float) -> None:
        """Add what the share has grown by to what was done, and the time that it took."""
        took, grown = now - self._seen[0], share - self._seen[1]
        if grown:
            self._seen = now, share
        if grown < 0:  # of other work, such as the teachers before the rows
            self._spent, self._gained = 0.0, 0.0
        elif grown and took >= AT_ONCE:
            self._spent, self._gained = self._spent + took, self._gained + grown

    def _pace(self, now: float, done: int) -> float | None:
        """Steps of the stage a second, since its first report."""
        if self._stage is None or done <= self._stage[2]:
            return None
        took, steps = now - self._stage[1], done - self._stage[2]
        return steps / took if took >= AT_ONCE * self._reports else None

    def _remaining(self, share: float) -> float | None:
        """Seconds, if what remains goes on as what was done."""
        return self._spent * (1 - share) / self._gained if self._estimates and self._gained else None
