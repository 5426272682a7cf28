"""The pictures that an evaluation leaves: the images, and accuracy per epoch."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from ugejax.app.files import replaced  # noqa: E402
from ugejax.evaluation import DISTILLATIONS  # noqa: E402

# Safe for colour-blind readers.
COLOURS = {"authorized": "#0072B2", "hacker": "#D55E00", "wrong_key": "#CC79A7", "distilled": "#009E73"}
COLUMNS = 5  # panels beside each other
_DPI = 150
_PANEL = 160  # pixels up to which an image is enlarged, by a whole factor
_GAP, _LEFT, _TOP = 8, 64, 36  # pixels between the images, and for the titles beside and above them


def draw_images(
    path: Path,
    originals: np.ndarray,
    released: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    levels: int,
) -> None:
    """A picture of one image of each of up to ten classes: original, released, and the perturbation.

    Every pixel of an image of at most 160 x 160 is a square of whole pixels; larger images are reduced to that.

    Args:
        path: PNG file.
        originals: uint8 [N, H, W, C].
        released: uint8 [N, H, W, C].
        labels: int [N].
        class_names: one name per label.
        levels: largest change in grey levels; that many less are black and as many more white in the last row.
    """
    shown = [int(np.flatnonzero(labels == label)[0]) for label in range(min(10, len(class_names)))]
    figure, axes = _panels(3, len(shown), originals.shape[1:3])
    rows = {
        "original": originals[shown],
        "released": released[shown],
        f"difference\n(±{max(1, levels)}/255)": amplified(originals[shown], released[shown], levels),
    }
    for row, (title, images) in zip(axes, rows.items(), strict=True):
        for column, (axis, image) in enumerate(zip(row, images, strict=True)):
            grey = image.shape[-1] == 1
            nearest = "nearest" if max(image.shape) <= _PANEL else None
            axis.imshow(
                image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255,
                interpolation=nearest, aspect="auto",
            )  # fmt: skip
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(title, fontsize=9)
    for axis, index in zip(axes[0], shown, strict=True):
        axis.set_title(class_names[labels[index]], fontsize=9, parse_math=False)
    _save(figure, path)


def _panels(lines: int, columns: int, size: tuple[int, int]) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [lines, columns] for images of that height and width, which lie on whole pixels of it."""
    largest = max(size)
    height, width = (
        side * (_PANEL // largest) if largest <= _PANEL else round(side * _PANEL / largest) for side in size
    )
    total = _LEFT + columns * (width + _GAP), _TOP + lines * (height + _GAP)
    figure = plt.figure(figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI)
    axes = np.empty((lines, columns), object)
    for line, column in np.ndindex(lines, columns):
        left, bottom = _LEFT + column * (width + _GAP), _GAP + (lines - 1 - line) * (height + _GAP)
        place = (left / total[0], bottom / total[1], width / total[0], height / total[1])
        axes[line, column] = figure.add_axes(place)
    return figure, axes


def amplified(original: np.ndarray, released: np.ndarray, levels: int) -> np.ndarray:
    """The difference of images, uint8 [..., H, W, C], so that `levels` less is black, as many more white."""
    difference = released.astype(np.float64) - original
    return np.rint(255 * np.clip(difference / (2 * max(1, levels)) + 0.5, 0, 1)).astype(np.uint8)


def draw_curves(path: Path, rows: list[dict[str, Any]], curves: list[dict[str, Any]]) -> None:
    """A picture of accuracy per epoch, a panel for each countermeasure or distillation.

    Dashed lines are on originals, solid ones on the release.
    """
    names = list(dict.fromkeys(row["countermeasure"] for row in rows))
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.6 * columns + 1.6, 3.8 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    labelled = set()  # once for all panels, in not all of which every role is
    for axis, name in zip(axes.flat, names, strict=False):
        for row, curve in zip(rows, curves, strict=True):
            if row["countermeasure"] != name:
                continue
            epochs = epochs_of(curve["protected"], row["epochs"])
            colour, role = COLOURS[row["role"]], row["role"].replace("_", " ")
            marker = "." if len(epochs) == 1 else ""
            axis.plot(epochs, curve["clean"], f"{marker}--", color=colour, alpha=0.45, linewidth=1)
            label = None if role in labelled else role
            axis.plot(epochs, curve["protected"], f"{marker}-", color=colour, linewidth=1.8, label=label)
            labelled.add(role)
        axis.set(title=f"{kind_of(name)}: {name}", xlabel="epoch", ylim=(0, 1))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    for line in axes:
        line[0].set_ylabel("accuracy on clean test images")
    axes[0][-1].plot([], [], "--", color="grey", label="trained on originals")
    figure.legend(fontsize=8, loc="outside right center")
    _save(figure, path)


def kind_of(name: str) -> str:
    """Whether a name in the column of the countermeasures is one, or says what a student was taught with."""
    return "distillation" if name in DISTILLATIONS else "countermeasure"


def epochs_of(curve: list[float], epochs: int) -> np.ndarray:
    """After which of so many epochs the accuracies of a curve were; an ensemble's one is after the last."""
    return np.arange(epochs - len(curve), epochs) + 1


def _save(figure: Figure, path: Path) -> None:
    with replaced(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)
    plt.close(figure)
