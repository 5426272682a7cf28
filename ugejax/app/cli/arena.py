"""`ugejax arena`: every method against every countermeasure and network, and a leaderboard."""

import argparse
import collections
import dataclasses
import functools
import os
import shutil
import sys
from typing import Any

import jax
from rich.console import Console

from ugejax.app.arena.estimate import Kind, kind_of, remaining, share_begun
from ugejax.app.arena.folder import Folder
from ugejax.app.arena.grid import Grid, check_network, parse_methods, parse_networks, parse_settings
from ugejax.app.arena.plan import Job, jobs_of, missing
from ugejax.app.arena.rows import Row, environment, job_of
from ugejax.app.cache import FolderCache
from ugejax.app.cli.arena_job import load_once, protect_job, train_job
from ugejax.app.cli.arena_pool import check_jobs, run_side_by_side
from ugejax.app.cli.places import usable_cache
from ugejax.app.cli.progress import Reporter
from ugejax.app.cli.sources import source_from
from ugejax.app.lock import alone_in
from ugejax.app.protection import check_budget
from ugejax.countermeasures import countermeasure_of, parse_countermeasures
from ugejax.data import Dataset
from ugejax.errors import UserError
from ugejax.networks import has_batch_norm, variable_shapes


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing of a grid, and print the leaderboard."""
    if arguments.eps is not None:
        check_budget(arguments.eps, "linf")
    if arguments.jobs > 1:
        check_jobs(arguments.jobs)
        # One process would take three quarters of an accelerator's memory for itself.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    methods = parse_methods(arguments.methods)
    grid = Grid(
        source=source_from(arguments, 0),
        methods=methods,
        networks=parse_networks(arguments.networks),
        countermeasures=tuple(parse_countermeasures(arguments.countermeasures)),
        seeds=arguments.seeds,
        authorized_network=check_network(arguments.authorized_network, "authorized_network"),
        eps=arguments.eps,
        epochs=arguments.epochs,
        settings=parse_settings(arguments.set, methods),
    )
    _check_countermeasures(grid)
    folder = Folder(arguments.out)
    folder.claim(grid)
    cache = usable_cache(arguments.cache)
    splits = load_once(grid.source)
    if splits.test is None:
        raise UserError(f"{arguments.source}: has no test images; hold some out with --n-test")
    _check_networks(grid, splits.train.images.shape[1:])
    folder.path.mkdir(parents=True, exist_ok=True)
    with alone_in(folder.path):
        folder.write_claim(folder.claim(grid))  # once more: another run may have been at work until now
        cache = dataclasses.replace(cache, trainings=folder.trainings)
        _fill(grid, folder, splits.train, splits.test, cache, arguments.jobs)
        shutil.rmtree(folder.trainings, ignore_errors=True)  # what a run left that was killed, and other code
    print((folder.path / "leaderboard.md").read_text())
    print(f"{folder.path}/: results.json, results.csv, leaderboard.md, leaderboard.html; keys/ is private")
    return 0


def _check_countermeasures(grid: Grid) -> None:
    """Refuse at once what would fail when its turn comes, hours later."""
    for name in grid.countermeasures:
        if "purifier" in name.split("+"):
            raise UserError(
                f"--countermeasures: {name}: an arena has no purifier; see --purifier of evaluate and attack"
            )
        unfit = [network for network in grid.networks if has_batch_norm(network)]
        if unfit and countermeasure_of(name).aggregate is not None:
            raise UserError(
                f"--countermeasures: {name} takes the gradient of each image, and batch norm leaves {', '.join(unfit)} "
                "none; choose --networks without, such as cnn"
            )


def _check_networks(grid: Grid, image_shape: tuple[int, ...]) -> None:
    """Refuse networks that cannot take these images before anything is made for them."""
    asked = [(name, "networks") for name in grid.networks]
    if "uge" in grid.methods:
        asked.append((grid.authorized_network, "authorized_network"))
    for name, argument in asked:
        try:
            variable_shapes(name, 2, image_shape)
        except UserError as error:
            raise UserError(f"{name}: {error}", argument=argument) from error


def _fill(grid: Grid, folder: Folder, train: Dataset, test: Dataset, cache: FolderCache, jobs: int) -> None:
    """Do the jobs that are missing, and write what the arena's folder shows."""
    facts = {
        "dataset": grid.source.title, "n_train": len(train.images), "n_test": len(test.images),
        "eps": grid.eps, "epochs": grid.epochs, "backend": jax.default_backend(),
    }  # fmt: skip
    standing = _Standing(grid, folder, facts, folder.rows(), jobs)
    console = Console(file=sys.stderr, soft_wrap=True)
    if jobs > 1:
        _fill_side_by_side(grid, folder, cache, standing, console)
    else:
        _fill_in_turn(grid, folder, cache, standing, console)
    folder.write_results(facts, list(standing.rows.values()))


def _fill_side_by_side(grid: Grid, folder: Folder, cache: FolderCache, standing: "_Standing", console: Console) -> None:
    with Reporter(console, estimates=False) as reporter:
        for running, job, found in run_side_by_side(grid, folder, cache, standing.left, standing.jobs):
            if job is not None:
                standing.ended(job, found)
            reporter.update(*standing.now(", ".join(job.title for job in running)))


def _fill_in_turn(grid: Grid, folder: Folder, cache: FolderCache, standing: "_Standing", console: Console) -> None:
    for job in list(standing.left):
        try:
            if job.kind == "protect":
                console.print(standing.now(job.title)[1], highlight=False)
                standing.ended(job, protect_job(grid, folder, job, console))
            else:
                with Reporter(console, estimates=False) as reporter:
                    reporter.update(*standing.now(job.title))
                    report = functools.partial(_report, standing, reporter, job)
                    standing.ended(job, train_job(grid, folder, cache, job, report))
        except UserError as error:
            raise UserError(f"{job.title}: {error}") from error


class _Standing:
    """How far an arena has come."""

    def __init__(self, grid: Grid, folder: Folder, facts: dict[str, Any], rows: list[Row], jobs: int):
        """Start from the rows that are there; those of other code or another device are made again."""
        self.rows = {job_of(row): row for row in rows}
        done = [job for job, row in self.rows.items() if row["environment"] == environment()]
        wanted = jobs_of(grid)
        released = [job for job in wanted if job.kind == "protect" and folder.release(job).exists()]
        self.left = missing(wanted, [*done, *released])
        self._total = sum(job.trainings for job in wanted)
        self.jobs = jobs  # that run side by side
        self._folder, self._facts = folder, facts
        self._measured: dict[Kind, list[float]] = collections.defaultdict(list)
        for job in done:
            self._measure(job, self.rows[job])
        for job in released:
            if (seconds := folder.seconds(job)) is not None:
                self._measured[kind_of(job)].append(seconds)

    def ended(self, job: Job, found: float | Row) -> None:
        """Take in what a job found: a protection the seconds that it took, a training its row."""
        self.left.remove(job)
        if not isinstance(found, dict):
            self._measured[kind_of(job)].append(found)
            return
        self._measure(job, found)
        if job.kind != "control":
            self.rows[job] = found
            self._folder.write_results(self._facts, list(self.rows.values()))

    def now(self, title: str, *, begun: float = 0.0) -> tuple[float, str]:
        """The share of trainings that is done, and a line for people.

        Args:
            title: what runs now.
            begun: the share of the first job left that is done.
        """
        trainings = [job.trainings for job in self.left]
        done = self._total - sum(trainings)
        rest = remaining(self.left, self._measured, begun=begun, side_by_side=self.jobs)
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
