"""The jobs of `ugejax arena` side by side, each in a process of its own."""

import concurrent.futures as futures
import io
import multiprocessing
import os
import threading
from collections.abc import Collection, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

import numpy as np
from rich.console import Console

from ugejax.app.arena.folder import Folder
from ugejax.app.arena.grid import Grid
from ugejax.app.arena.plan import Job
from ugejax.app.arena.rows import Row
from ugejax.app.cache import FolderCache
from ugejax.app.cli.arena_job import protect_job, train_job
from ugejax.errors import UserError


def check_jobs(jobs: int) -> None:
    """Refuse more processes than there are cores, since each gets cores of its own.

    Raises:
        UserError: there are more.
    """
    if jobs > len(_cores()):
        raise UserError(f"--jobs {jobs}: more than the {len(_cores())} cores here")


def run_side_by_side(
    grid: Grid, folder: Folder, cache: FolderCache, left: Collection[Job], jobs: int
) -> Iterator[tuple[list[Job], Job | None, float | Row]]:
    """Do jobs in several processes, each after what it needs.

    A process keeps to its share of the cores. Otherwise all would compute with as many threads as there are cores, and
    what they find would depend on what else runs, since on a CPU the order of a sum follows the threads.

    Args:
        grid: the grid.
        folder: its folder.
        cache: of finished trials.
        left: the jobs to do, in their order.
        jobs: how many processes.

    Yields:
        The jobs that run now, and one that has just ended, with the seconds of a protection or the row of a training;
        every few seconds None in its place.

    Raises:
        UserError: a job failed, and those that ran beside it are yielded first; or a process was killed.
    """
    # JAX's threads do not survive a fork: these are of a process that has only imported what all of them need.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ugejax.app.cli.arena_job", "orbax.checkpoint"])
    shares = context.SimpleQueue()
    for share in np.array_split(_cores(), jobs):
        shares.put(share.tolist())
    waiting, running, failed = list(left), {}, None
    try:
        with futures.ProcessPoolExecutor(jobs, context, _begin, (shares,)) as pool:
            while running or (waiting and failed is None):
                undone = {*waiting, *running.values()}
                ready = [job for job in waiting if undone.isdisjoint(job.needs)] if failed is None else []
                for job in ready[: jobs - len(running)]:
                    waiting.remove(job)
                    running[pool.submit(_work, grid, folder, cache, job)] = job
                done, _ = futures.wait(running, timeout=2, return_when=futures.FIRST_COMPLETED)
                if not done:
                    yield list(running.values()), None, 0.0
                for future in done:
                    job = running.pop(future)
                    try:
                        yield list(running.values()), job, future.result()
                    except UserError as error:
                        failed = failed or UserError(f"{job.title}: {error}")
    except BrokenProcessPool as error:
        raise UserError("a process of --jobs was ended, perhaps for want of memory; give fewer --jobs") from error
    if failed is not None:
        raise failed


def _cores() -> list[int]:
    # macOS has no affinity: there a process may run anywhere.
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _begin(shares: "SimpleQueue[list[int]]") -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, shares.get())


def _end_with_the_parent() -> None:
    """A parent that was killed asks for nothing more, and a training that nobody waits for would hold its cores."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "the pool's processes have one"
    parent.join()
    os._exit(1)  # at any moment: what a job writes appears whole or not at all


def _work(grid: Grid, folder: Folder, cache: FolderCache, job: Job) -> float | Row:
    if job.kind == "protect":
        return protect_job(grid, folder, job, Console(file=io.StringIO()))
    return train_job(grid, folder, cache, job, lambda *_: None)
