"""How long the jobs that remain will take, by what jobs of their kind took; nothing is guessed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from ugejax.app.arena.plan import Job
from ugejax.app.duration import duration

Kind = tuple[str | None, ...]


@dataclass(frozen=True)
class Remaining:
    """What the jobs that remain will take.

    Attributes:
        seconds: of wall-clock time for those whose kind was measured.
        trainings: how many trainings are of a kind that was not.
        protections: how many protections are.
    """

    seconds: float
    trainings: int
    protections: int

    def __str__(self) -> str:
        """For people."""
        counts = ((self.trainings, "training"), (self.protections, "protection"))
        parts = [f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count]
        if parts and not self.seconds:
            return "unknown"
        about = f"about {duration(self.seconds)}"
        return f"{about} and {' and '.join(parts)} of unknown length" if parts else about


def kind_of(job: Job) -> Kind:
    """Jobs of one kind take the same time: all trainings of a grid have the same images, and a network its epochs."""
    return (job.method,) if job.kind == "protect" else (job.network, job.countermeasure)


def remaining(
    jobs: Iterable[Job], measured: Mapping[Kind, Sequence[float]], *, begun: float = 0.0, side_by_side: int = 1
) -> Remaining:
    """What jobs will take.

    Args:
        jobs: those that remain.
        measured: for each `kind_of` a job, the seconds that one training, or the protection, took each time.
        begun: share of the first that is done.
        side_by_side: how many run at a time.
    """
    seconds, trainings, protections = 0.0, 0, 0
    for place, job in enumerate(jobs):
        if past := measured.get(kind_of(job)):
            seconds += mean(past) * max(1, job.trainings) * (1 if place else 1 - begun)
        elif job.kind == "protect":
            protections += 1
        else:
            trainings += job.trainings
    return Remaining(seconds / side_by_side, trainings, protections)


def share_begun(job: Job, trials: int, share: float) -> float:
    """The share of a training job that is done.

    Args:
        job: the job.
        trials: how many trials its evaluation is done with; some it only looked up: a hacker's control, and the
            authorized network on the release, which is the same as on the originals.
        share: of the trial that runs.
    """
    return (min(trials, job.trainings - 1) + share) / job.trainings
