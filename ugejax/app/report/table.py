"""The table that a terminal shows of an evaluation."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(results: dict[str, Any], console: Console) -> None:
    """The rows of `results.json` as a table, and the summary in a sentence."""
    table = Table(title=f"Accuracy on {results['n_test']} clean test images of {results['dataset']}")
    for name in ("role", "network", "countermeasure"):
        table.add_column(name)
    for name in ("trained on originals", "on the release", "peak", "relabelled", "retention", "epochs", "seconds"):
        table.add_column(name, justify="right")
    for row in results["rows"]:
        retention = "-" if row["retention"] is None else f"{row['retention']:.2f}"
        renamed = row.get("protected_relabelled_accuracy")
        table.add_row(
            row["role"].replace("_", " "), row["network"], row["countermeasure"], f"{row['clean_accuracy']:.3f}",
            f"{row['protected_accuracy']:.3f}", f"{row['protected_peak_accuracy']:.3f}",
            "-" if renamed is None else f"{renamed:.3f}", retention, str(row["epochs"]), f"{row['seconds']:.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(verdict(results["summary"]))


def verdict(summary: dict[str, Any]) -> str:
    """The summary of an evaluation in a sentence."""
    parts = []
    if summary["authorized_retention"] is not None:
        part = f"The authorized network keeps {summary['authorized_retention']:.1%} of its accuracy on the originals"
        if (share := summary.get("authorized_retention_of_backbone")) is not None:
            part += f", {share:.1%} of what its backbone gets there without the secret part"
        parts.append(part)
    if summary["worst_hacker"] is not None:
        mean = "" if summary["mean_hacker"] is None else f"hackers get {summary['mean_hacker']:.3f} on average; "
        parts.append(
            f"{mean}the best of them {summary['worst_hacker']:.3f} "
            f"({summary['worst_hacker_role'].replace('_', ' ')} {summary['worst_hacker_network']}, "
            f"countermeasure {summary['worst_hacker_countermeasure']})"
        )
    if summary["mean_countermeasure_share"] is not None:
        parts.append(
            f"with a countermeasure they get {summary['mean_countermeasure_share']:.1%} of what it leaves them on the "
            f"originals, the most ({summary['worst_countermeasure_share']:.1%}) with {summary['worst_countermeasure']}"
        )
    if summary["worst_distilled"] is not None:
        parts.append(f"the best student of the authorized network gets {summary['worst_distilled']:.3f}")
    return ("; ".join(parts) or "Nobody trained on the release") + "."
