"""What `ugejax arena` does for one job."""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable

from rich.console import Console

from ugejax.app.arena.folder import Folder
from ugejax.app.arena.grid import Grid
from ugejax.app.arena.plan import Job
from ugejax.app.arena.rows import Row, make_row
from ugejax.app.cache import FolderCache
from ugejax.app.cli import protect
from ugejax.app.cli.arguments import build_parser
from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import check_originals
from ugejax.app.imitation import imitation_of
from ugejax.app.keys import seal_of
from ugejax.app.release import read_release
from ugejax.data import load
from ugejax.evaluation import Evaluation, evaluate

load_once = functools.lru_cache(maxsize=1)(load)  # most jobs are of the seed of the one before


def protect_job(grid: Grid, folder: Folder, job: Job, console: Console) -> float:
    """Make the release of a job, telling a console how it goes; returns the seconds that it took."""
    began = time.perf_counter()
    protect.run(_command(grid, folder, job), console)
    seconds = time.perf_counter() - began
    folder.write_seconds(job, seconds)
    return seconds


def train_job(
    grid: Grid, folder: Folder, cache: FolderCache, job: Job, report: Callable[[int, int, str, int, int, float], None]
) -> Row:
    """Train the networks of a job, or find in the cache what they got.

    Args:
        grid: the grid.
        folder: its folder, with the release.
        cache: of finished trials.
        job: a control, a hacker or the authorized network.
        report: see `evaluate`.

    Returns:
        The arena's row; for a control, which has none, the evaluation's.
    """
    source = dataclasses.replace(grid.source, seed=job.seed)
    splits = load_once(source)
    originals, test = splits.train, splits.test
    assert test is not None, "checked before anything was written"
    release = key = network = None
    if job.kind != "control":
        release = read_release(folder.release(job))
        check_originals(release, originals, source.name)
        if job.kind == "authorized":
            key = open_key(folder.key(job))
            network = open_network(key, folder.key(job), release.card, folder.release(job))
            cache = dataclasses.replace(cache, seal=seal_of(key) / "arena")
    evaluation = Evaluation(
        originals, originals.images if release is None else release.images, test, key, network,
        hackers=() if key else (str(job.network),), countermeasures=(str(job.countermeasure),), epochs=grid.epochs,
        seeds=(job.seed,),
        imitation=None if release is None else imitation_of(release.card, len(originals.class_names)),
    )  # fmt: skip
    (row,), _ = evaluate(evaluation, cache, report)
    return row if release is None else make_row(job, row, release.card, folder.seconds(job))


def _command(grid: Grid, folder: Folder, job: Job) -> argparse.Namespace:
    """The `ugejax protect` of a job."""
    source, method, seed = grid.source, str(job.method), str(job.seed)
    command = ["protect", source.name, "--out", str(folder.release(job)), "--method", method]
    command += ["--seed", seed, "--subset-seed", seed]
    options = {
        "--data-dir": source.data_dir, "--n-train": source.n_train, "--n-test": source.n_test,
        "--image-size": source.image_size, "--eps": grid.eps_of(method),
    }  # fmt: skip
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    command += ["--skip-unreadable"] if source.skip_unreadable else []
    for assignment in grid.settings.get(method, ()):
        command += ["--set", assignment]
    if method == "uge":
        command += ["--key", str(folder.key(job)), "--network", grid.authorized_network]
    return build_parser().parse_args(command)
