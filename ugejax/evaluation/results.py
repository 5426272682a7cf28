"""The results of an evaluation: rows, and their summary."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

from ugejax.countermeasures import countermeasure_of

SCHEMA = 1
HACKERS = ("hacker", "wrong_key")


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that sum an evaluation up.

    Args:
        rows: rows of `results.json`.

    Returns:
        authorized_retention: mean over seeds without countermeasure.
        authorized_retention_of_backbone: the same against the backbone without the secret part trained on the
        originals, which says what the secret part itself costs.
        worst_hacker: the highest mean accuracy over seeds on the release of any network under any countermeasure;
        worst_hacker_role, _network and _countermeasure name it. Who trains on originals alone does not count.
        mean_hacker: mean over the hackers without countermeasure.
        mean_countermeasure_share: accuracy on the release as a share of that of the same countermeasure on the
        originals, mean over the hackers of a countermeasure, then over the countermeasures; none, and those
        that take originals, do not count.
        worst_countermeasure: the one with the highest such share; worst_countermeasure_share is that.
        worst_distilled: the highest mean accuracy over seeds of a student of the authorized network.
        Figures that no row supports are None.
    """
    plain = [row for row in rows if row["countermeasure"] == "none"]
    hackers = [row for row in rows if row["role"] in HACKERS and countermeasure_of(row["countermeasure"]).needs_release]
    shares = _group(
        (row["countermeasure"], row["retention"])
        for row in hackers
        if row["retention"] is not None and _fights_release_alone(row["countermeasure"])
    )
    accuracies = _group(
        ((row["role"], row["network"], row["countermeasure"]), row["protected_accuracy"]) for row in hackers
    )
    students = _group(
        ((row["network"], row["countermeasure"]), row["protected_accuracy"])
        for row in rows
        if row["role"] == "distilled"
    )
    worst = max(accuracies, key=lambda name: accuracies[name], default=(None, None, None))
    worst_countermeasure = max(shares, key=lambda name: shares[name], default=None)
    return {
        "authorized_retention": _mean(row["retention"] for row in plain if row["role"] == "authorized"),
        "authorized_retention_of_backbone": _mean(
            row["protected_accuracy"] / row["backbone_accuracy"] for row in plain if row.get("backbone_accuracy")
        ),
        "worst_hacker": accuracies.get(worst),
        "worst_hacker_role": worst[0],
        "worst_hacker_network": worst[1],
        "worst_hacker_countermeasure": worst[2],
        "mean_hacker": _mean(row["protected_accuracy"] for row in plain if row["role"] in HACKERS),
        "mean_countermeasure_share": _mean(shares.values()),
        "worst_countermeasure": worst_countermeasure,
        "worst_countermeasure_share": shares.get(worst_countermeasure),
        "worst_distilled": max(students.values(), default=None),
    }


def _fights_release_alone(name: str) -> bool:
    countermeasure = countermeasure_of(name)
    return name != "none" and countermeasure.needs_release and not countermeasure.holds_originals


def _group(named: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    """The mean of the values of each name."""
    groups: dict[Any, list[float]] = {}
    for name, value in named:
        groups.setdefault(name, []).append(value)
    return {name: mean(values) for name, values in groups.items()}


def _mean(values: Iterable[float | None]) -> float | None:
    values = [value for value in values if value is not None]
    return mean(values) if values else None
