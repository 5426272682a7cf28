"""What people look at: the table, the pictures."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# Safe for colour-blind readers.
COLOURS = {"authorized": "#0072B2", "hacker": "#D55E00", "wrong_key": "#CC79A7", "distilled": "#009E73"}
COLUMNS = 5  # panels beside each other


def print_table(results: dict[str, Any], console: Console) -> None:
    """The rows of `results.json` as a table, and the summary in a sentence."""
    table = Table(title=f"Accuracy on {results['n_test']} clean test images of {results['dataset']}")
    for name in ("role", "network", "counter-measure"):
        table.add_column(name)
    for name in ("trained on originals", "on the release", "peak", "retention", "epochs", "seconds"):
        table.add_column(name, justify="right")
    for row in results["rows"]:
        retention = "-" if row["retention"] is None else f"{row['retention']:.2f}"
        table.add_row(
            row["role"].replace("_", " "), row["network"], row["countermeasure"], f"{row['clean_accuracy']:.3f}",
            f"{row['protected_accuracy']:.3f}", f"{row['protected_peak_accuracy']:.3f}", retention,
            str(row["epochs"]), f"{row['seconds']:.0f}",
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
            f"counter-measure {summary['worst_hacker_countermeasure']})"
        )
    if summary["mean_countermeasure_share"] is not None:
        parts.append(
            f"with a counter-measure they get {summary['mean_countermeasure_share']:.1%} of what it leaves them on the "
            f"originals, the most ({summary['worst_countermeasure_share']:.1%}) with {summary['worst_countermeasure']}"
        )
    if summary["worst_distilled"] is not None:
        parts.append(f"the best student of the authorized network gets {summary['worst_distilled']:.3f}")
    return "; ".join(parts) + "."


def draw_images(
    path: Path,
    originals: np.ndarray,
    released: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    eps: float,
) -> None:
    """A picture of one image of each of up to ten classes: original, released, and the perturbation.

    Args:
        path: PNG file.
        originals: uint8 [N, H, W, C].
        released: uint8 [N, H, W, C].
        labels: int [N].
        class_names: one name per label.
        eps: budget in units of [0, 1]; -eps is black and +eps white in the last row.
    """
    shown = [int(np.flatnonzero(labels == label)[0]) for label in range(min(10, len(class_names)))]
    figure, axes = plt.subplots(
        3, len(shown), figsize=(1.15 * len(shown) + 0.9, 4.0), squeeze=False, layout="constrained"
    )
    noise = (released[shown].astype(float) - originals[shown]) / 255
    rows = {
        "original": originals[shown],
        "released": released[shown],
        f"difference\n(±{eps * 255:.3g}/255)": np.clip(noise / (2 * eps) + 0.5, 0, 1),
    }
    for row, (title, images) in zip(axes, rows.items(), strict=True):
        for column, (axis, image) in enumerate(zip(row, images, strict=True)):
            grey = image.shape[-1] == 1
            top = 255 if image.dtype == np.uint8 else 1
            axis.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=top)
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(title, fontsize=9)
    for axis, index in zip(axes[0], shown, strict=True):
        axis.set_title(class_names[labels[index]], fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_curves(path: Path, rows: list[dict[str, Any]], curves: list[dict[str, Any]]) -> None:
    """A picture of accuracy per epoch, one panel a counter-measure: dashed on originals, solid on the release."""
    names = list(dict.fromkeys(row["countermeasure"] for row in rows))
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.6 * columns + 1.6, 3.8 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        labelled = set()
        for row, curve in zip(rows, curves, strict=True):
            if row["countermeasure"] != name:
                continue
            epochs = np.arange(1, row["epochs"] + 1)
            colour, role = COLOURS[row["role"]], row["role"].replace("_", " ")
            axis.plot(epochs, curve["clean"], "--", color=colour, alpha=0.45, linewidth=1)
            axis.plot(
                epochs, curve["protected"], "-", color=colour, linewidth=1.8, label=None if role in labelled else role
            )
            labelled.add(role)
        axis.set(title=f"counter-measure: {name}", xlabel="epoch", ylim=(0, 1))
        axis.grid(alpha=0.3)
    for line in axes:
        line[0].set_ylabel("accuracy on clean test images")
    axes[0][-1].plot([], [], "--", color="grey", label="trained on originals")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=150)
    plt.close(figure)
