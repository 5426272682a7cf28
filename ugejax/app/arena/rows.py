"""The rows of an arena: what each job found, beside what its release cost."""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from ugejax.app.arena.plan import Job
from ugejax.baselines import BASELINES
from ugejax.countermeasures.registry import place_of
from ugejax.networks import NETWORKS

Row = dict[str, Any]

COLUMNS: tuple[str, ...] = (
    "method", "seed", "role", "network", "countermeasure", "clean_accuracy", "clean_peak_accuracy",
    "clean_relabelled_accuracy", "protected_accuracy", "protected_peak_accuracy", "protected_relabelled_accuracy",
    "retention", "backbone_accuracy", "psnr_mean", "ssim_mean",
    "realised_linf", "realised_l2", "generation_seconds", "epochs", "seconds", "environment",
)  # fmt: skip
# Of them those that arenas before version 0.2 lack.
LATER = ("clean_relabelled_accuracy", "protected_relabelled_accuracy")


def make_row(job: Job, evaluated: Row, card: Mapping[str, Any], generation_seconds: float | None) -> Row:
    """The row of a job.

    Args:
        job: a hacker or the authorized network.
        evaluated: the row of the evaluation.
        card: of the release.
        generation_seconds: what the protection took; None where nobody measured it.

    Returns:
        The `COLUMNS`. Accuracies are fractions on clean test images, `clean_` those of the same training on the
        originals, `_relabelled_` those under the best map of answers to classes, `backbone_accuracy` that of the
        authorized network without its secret part; `retention` is protected over clean; the realised budgets are the
        largest of any image in units of [0, 1]; `seconds` that of both trainings; `environment` the code and device
        they ran on.
    """
    found = {
        "method": job.method,
        "psnr_mean": card["psnr"]["mean"],
        "ssim_mean": card["ssim"]["mean"],
        "realised_linf": card["realised_eps"]["linf"],
        "realised_l2": card["realised_eps"]["l2_max"],
        "generation_seconds": generation_seconds,
        "environment": environment(),
    }
    return {name: (found | evaluated).get(name) for name in COLUMNS}


def job_of(row: Row) -> Job:
    """The job that made a row."""
    return Job(row["role"], row["seed"], row["method"], row["network"], row["countermeasure"])


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of the registries, whichever was made first."""
    places = [
        {name: place for place, name in enumerate(names)}
        for names in (("uge", *BASELINES), ("authorized", "hacker"), NETWORKS)
    ]

    def place(row: Row) -> tuple:
        named = [row[name] for name in ("method", "role", "network")]
        method, role, network = (known.get(name, len(known)) for known, name in zip(places, named, strict=True))
        return method, row["seed"], role, place_of(row["countermeasure"]), network

    return sorted(rows, key=place)


@functools.cache
def environment() -> str:
    """16 hexadecimal digits of the package's code, jax and the device: what rows may depend on beside the grid."""
    content = hashlib.sha256(f"{jax.__version__} {jax.default_backend()} {jax.devices()[0].device_kind}".encode())
    for file in sorted(Path(__file__).parent.parent.parent.rglob("*.py")):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]
