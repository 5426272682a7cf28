"""The jobs of a grid, in an order in which each finds what it needs."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from ugejax.app.arena.grid import Grid
from ugejax.countermeasures import countermeasure_of
from ugejax.evaluation.plan import AUTHORIZED_COUNTERMEASURES


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Attributes:
        kind: "protect" a source; train the "control", a hacker's network on the originals, which all methods share; a
            "hacker" on the release; or the "authorized" network on both.
        seed: of everything.
        method: None for a control.
        network: None for a protection.
        countermeasure: None for a protection.
    """

    kind: Literal["protect", "control", "hacker", "authorized"]
    seed: int
    method: str | None = None
    network: str | None = None
    countermeasure: str | None = None

    @property
    def trainings(self) -> int:
        """How many networks it trains."""
        # The authorized network sees the same of both sets, hence trains once; and once without its secret part.
        return {"protect": 0, "authorized": 2, "hacker": 2 if self._own_control else 1}.get(self.kind, 1)

    @property
    def needs(self) -> tuple["Job", ...]:
        """What has to be done before."""
        protect = Job("protect", self.seed, self.method)
        if self.kind == "hacker" and self._own_control:
            return (protect,)
        control = Job("control", self.seed, network=self.network, countermeasure=self.countermeasure)
        return {"hacker": (protect, control), "authorized": (protect,)}.get(self.kind, ())

    @property
    def _own_control(self) -> bool:
        """Whether its control is no other method's: what a hacker learned of the release's method, he does to both."""
        return self.countermeasure is not None and countermeasure_of(self.countermeasure).knows_method

    @property
    def title(self) -> str:
        """What it is, for people."""
        names = (self.kind, self.method, self.network, self.countermeasure, f"seed {self.seed}")
        return " ".join(name for name in names if name is not None)


def jobs_of(grid: Grid) -> list[Job]:
    """All jobs of a grid: method by method, a control right before the first hacker who needs it."""
    return list(dict.fromkeys(job for method in grid.methods for job in _of_method(grid, method)))


def missing(jobs: list[Job], done: Collection[Job]) -> list[Job]:
    """The jobs that remain where others are done: all that make a row, and what these need."""
    known = {*done, *(need for job in done for need in job.needs if need.kind == "control")}
    rows = [job for job in jobs if job.kind in ("hacker", "authorized") and job not in known]
    wanted = {need for job in rows for need in (job, *job.needs)} - known
    return [job for job in jobs if job in wanted]


def _of_method(grid: Grid, method: str) -> Iterator[Job]:
    seeds = range(grid.seeds)
    yield from (Job("protect", seed, method) for seed in seeds)
    for seed in seeds:
        for countermeasure in grid.countermeasures:
            if method == "uge" and countermeasure in AUTHORIZED_COUNTERMEASURES:
                yield Job("authorized", seed, method, grid.authorized_network, countermeasure)
            for network in grid.networks:
                hacker = Job("hacker", seed, method, network, countermeasure)
                yield from (need for need in hacker.needs if need.kind == "control")
                yield hacker
