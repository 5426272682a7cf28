"""Progress for people: a live line in a terminal, plain lines where there is none."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """One bar over a stage of known length. Use as a context manager."""

    def __init__(self, console: Console, *, estimates: bool = True):
        """Report to a console; without a terminal a line at most every ten seconds.

        Args:
            console: where to.
            estimates: whether to estimate the time that remains by the share that is done.
        """
        self._console = console
        self._last = 0.0
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")]
        columns += [TimeElapsedColumn(), TimeRemainingColumn()][: 1 + estimates]
        self._progress = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> "Reporter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, share: float, text: str) -> None:
        """Show that this share of the work, in [0, 1], is done, and what it does now."""
        if self._console.is_terminal:
            self._progress.update(self._task, completed=share, description=text)
        elif time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            self._console.print(f"{share:4.0%} {text}", highlight=False)

    def stage(self, name: str, done: int, of: int, figures: dict[str, float]) -> None:
        """Show how far a stage has come, and its figures."""
        self.update(done / of, f"{name} {done}/{of} " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()))
