"""`ugejax arena`: every method against every counter-measure and network, and a leaderboard."""

import argparse
import collections
import functools
import sys
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from ugejax.arena.estimate import Kind, kind_of, remaining, share_begun
from ugejax.arena.folder import Folder
from ugejax.arena.grid import Grid, check_network, parse_methods, parse_networks, parse_settings
from ugejax.arena.plan import Job, jobs_of, missing
from ugejax.arena.rows import Row, environment, job_of
from ugejax.cli.arena_job import load_once, protect_job, train_job
from ugejax.cli.lock import alone_in
from ugejax.cli.progress import Reporter
from ugejax.cli.releasing import check_budget, source_from
from ugejax.countermeasures import parse_countermeasures
from ugejax.data import Dataset
from ugejax.errors import UserError
from ugejax.evaluation.trial import default_cache


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing of a grid, and print the leaderboard."""
    if arguments.eps is not None:
        check_budget(arguments.eps, "linf")
    methods = parse_methods(arguments.methods)
    grid = Grid(
        source=source_from(arguments, 0),
        methods=methods,
        networks=parse_networks(arguments.networks),
        countermeasures=tuple(parse_countermeasures(arguments.countermeasures)),
        seeds=arguments.seeds,
        authorized_network=check_network(arguments.authorized_network, "--authorized-network"),
        eps=arguments.eps,
        epochs=arguments.epochs,
        settings=parse_settings(arguments.set, methods),
    )
    folder = Folder(arguments.out)
    claim = folder.claim(grid)
    splits = load_once(grid.source)
    if splits.test is None:
        raise UserError(f"{arguments.source}: has no test images; hold some out with --n-test")
    folder.write_claim(claim)
    with alone_in(folder.path):
        _fill(grid, folder, splits.train, splits.test, arguments.cache or default_cache())
    print((folder.path / "leaderboard.md").read_text())
    print(f"{folder.path}/: results.json, results.csv, leaderboard.md, leaderboard.html; keys/ is private")
    return 0


def _fill(grid: Grid, folder: Folder, train: Dataset, test: Dataset, cache: Path) -> None:
    """Do the jobs that are missing, and write what the arena's folder shows."""
    facts = {
        "dataset": grid.source.name, "n_train": len(train.images), "n_test": len(test.images),
        "eps": grid.eps, "epochs": grid.epochs, "backend": jax.default_backend(),
    }  # fmt: skip
    standing = _Standing(grid, folder, facts, folder.rows())
    console = Console(file=sys.stderr, soft_wrap=True)
    for job in list(standing.left):
        try:
            if job.kind == "protect":
                console.print(standing.now(job.title)[1], highlight=False)
                standing.protected(job, protect_job(grid, folder, job, console))
            else:
                with Reporter(console, estimates=False) as reporter:
                    reporter.update(*standing.now(job.title))
                    report = functools.partial(_report, standing, reporter, job)
                    standing.trained(job, train_job(grid, folder, cache, job, report))
        except UserError as error:
            raise UserError(f"{job.title}: {error}") from error
    folder.write_results(facts, list(standing.rows.values()))


class _Standing:
    """How far an arena has come."""

    def __init__(self, grid: Grid, folder: Folder, facts: dict[str, Any], rows: list[Row]):
        """Start from the rows that are there; those of other code or another device are made again."""
        self.rows = {job_of(row): row for row in rows}
        done = [job for job, row in self.rows.items() if row["environment"] == environment()]
        jobs = jobs_of(grid)
        released = [job for job in jobs if job.kind == "protect" and folder.release(job).exists()]
        self.left = missing(jobs, [*done, *released])
        self._total = sum(job.trainings for job in jobs)
        self._folder, self._facts = folder, facts
        self._measured: dict[Kind, list[float]] = collections.defaultdict(list)
        for job in done:
            self._measure(job, self.rows[job])
        for job in released:
            if (seconds := folder.seconds(job)) is not None:
                self._measured[kind_of(job)].append(seconds)

    def protected(self, job: Job, seconds: float) -> None:
        """Take in what a protection took."""
        self.left.remove(job)
        self._measured[kind_of(job)].append(seconds)

    def trained(self, job: Job, row: Row) -> None:
        """Take in what a training found."""
        self.left.remove(job)
        self._measure(job, row)
        if job.kind != "control":
            self.rows[job] = row
            self._folder.write_results(self._facts, list(self.rows.values()))

    def now(self, title: str, *, begun: float = 0.0) -> tuple[float, str]:
        """The share of trainings that is done, and a line for people.

        Args:
            title: what runs now.
            begun: the share of the first job left that is done.
        """
        trainings = [job.trainings for job in self.left]
        done = self._total - sum(trainings)
        rest = remaining(self.left, self._measured, begun=begun)
        share = (done + begun * sum(trainings[:1])) / self._total
        return share, f"{done}/{self._total} trainings done, remaining: {rest}; now {title}"

    def _measure(self, job: Job, row: Row) -> None:
        # The seconds of a row are those of two trainings, on the originals and on the release.
        self._measured[kind_of(job)].append(row["seconds"] / 2)


def _report(
    standing: _Standing, reporter: Reporter, job: Job, done: int, of: int, _: str, epoch: int, epochs: int,
    accuracy: float,
) -> None:  # fmt: skip
    title = f"{job.title}, epoch {epoch}/{epochs}: {accuracy:.3f}"
    reporter.update(
        *standing.now(title, begun=share_begun(job, done, epoch / epochs)), stage=job.title, done=epoch, of=epochs,
        figures={"accuracy": accuracy},
    )  # fmt: skip
