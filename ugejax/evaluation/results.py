"""The results of an evaluation: rows, their summary, and the file."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

SCHEMA = 1
HACKERS = ("hacker", "wrong_key")


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that sum an evaluation up.

    Args:
        rows: rows of `results.json`.

    Returns:
        authorized_retention: mean over seeds without counter-measure.
        authorized_retention_of_backbone: the same against the backbone without the secret part trained on the
        originals, which says what the secret part itself costs.
        worst_hacker: the highest mean accuracy over seeds on the release of any network under any counter-measure;
        worst_hacker_role, _network and _countermeasure name it.
        mean_hacker: mean over the hackers without counter-measure.
        Figures that no row supports are None.
    """
    plain = [row for row in rows if row["countermeasure"] == "none"]
    retention = [row["retention"] for row in plain if row["role"] == "authorized"]
    of_backbone = [
        row["protected_accuracy"] / row["backbone_accuracy"] for row in plain if row.get("backbone_accuracy")
    ]
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row["role"] in HACKERS:
            groups.setdefault((row["role"], row["network"], row["countermeasure"]), []).append(
                row["protected_accuracy"]
            )
    harmed = [row["protected_accuracy"] for row in plain if row["role"] in HACKERS]
    worst = max(groups, key=lambda group: mean(groups[group]), default=None)
    return {
        "authorized_retention": mean(retention) if retention else None,
        "authorized_retention_of_backbone": mean(of_backbone) if of_backbone else None,
        "worst_hacker": mean(groups[worst]) if worst else None,
        "worst_hacker_role": worst[0] if worst else None,
        "worst_hacker_network": worst[1] if worst else None,
        "worst_hacker_countermeasure": worst[2] if worst else None,
        "mean_hacker": mean(harmed) if harmed else None,
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results.json` whole or not at all."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(path)
