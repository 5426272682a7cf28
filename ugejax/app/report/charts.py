"""The charts of a report, as SVG that takes its colours from the page around it."""

import io
import re
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from threadpoolctl import threadpool_limits

from ugejax.app.report.content import Content, Group
from ugejax.app.report.evidence import Evidence
from ugejax.app.report.pictures import COLOURS, epochs_of, kind_of

# Okabe and Ito's colours for colour-blind readers, without the black and the yellow, which one of the themes hides.
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
CLASS_MARKERS = ("o", "^")
WIDTH = 4.0  # inches: what a phone shows without making the letters too small

# Stands for the colour of the page's text, and is replaced by it.
_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "ugejax", "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "grid.color": _INK, "grid.alpha": 0.18, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
}  # fmt: skip


def colour_variables() -> str:
    """CSS variables of the roles' colours in :root."""
    return " ".join(f"--{role.replace('_', '-')}: {colour};" for role, colour in COLOURS.items())


def accuracy_chart(content: Content) -> str:
    """What everybody gets from the originals and from the release."""
    groups = content.groups

    def draw(figure: Figure) -> None:
        axis = figure.add_subplot(xlim=(0, 1), ylim=(len(groups) - 0.4, -0.6), xlabel="accuracy on clean test images")
        axis.set_yticks(range(len(groups)), [group.title for group in groups], fontsize=9)
        for place, group in enumerate(groups):
            colour = COLOURS[group.role]
            axis.plot([group.clean, group.protected], [place, place], color=colour, alpha=0.35, linewidth=1)
            axis.plot(group.clean, place, "o", markerfacecolor="none", markeredgecolor=colour, clip_on=False)
            axis.plot([group.low, group.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
            axis.plot(group.protected, place, "o", color=colour, clip_on=False)
        handles = [
            axis.plot([], [], "o", markerfacecolor="none", markeredgecolor=_INK, label="trained on originals")[0],
            axis.plot([], [], "o", color=_INK, label="on the release, 95 % interval")[0],
        ]
        if content.chance is not None:
            handles.append(axis.axvline(content.chance, color=_INK, linestyle=":", linewidth=1, label="guessing"))
        axis.grid(axis="x")
        figure.legend(handles=handles, loc="outside lower center", fontsize=9)

    return _svg("accuracy", "Accuracy of everybody who trains", draw, height=1.4 + 0.24 * len(groups))


def curve_charts(content: Content) -> Iterator[str]:
    """Accuracy per epoch, a chart for each countermeasure or distillation."""
    groups = [group for group in content.groups if group.curves]
    for number, name in enumerate(dict.fromkeys(group.countermeasure for group in groups)):
        shown = [group for group in groups if group.countermeasure == name]
        title = "without countermeasure" if name == "none" else f"{kind_of(name)} {name}"
        yield _svg(
            f"curves-{number}", f"Accuracy per epoch, {title}", lambda figure, shown=shown: _curves(figure, shown)
        )


def _curves(figure: Figure, groups: list[Group]) -> None:
    axis = figure.add_subplot(ylim=(0, 1), xlabel="epoch", ylabel="accuracy on clean test images")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    labelled = set()
    for group in groups:
        colour, label = COLOURS[group.role], group.role.replace("_", " ")
        for clean, protected in group.curves:
            epochs = epochs_of(protected, group.epochs)
            marker = "." if len(epochs) == 1 else ""
            axis.plot(epochs, clean, f"{marker}--", color=colour, alpha=0.8, linewidth=1.2)
            name = None if label in labelled else f"{label}, release"
            axis.plot(epochs, protected, f"{marker}-", color=colour, label=name)
            labelled.add(label)
    axis.plot([], [], "--", color=_INK, alpha=0.8, linewidth=1.2, label="the same on originals")
    axis.grid()
    figure.legend(loc="outside lower center", ncol=2, fontsize=9)


def spectrum_charts(evidence: Evidence) -> Iterator[str]:
    """Where the perturbation lies in frequency: over all directions, and as a map."""

    def draw(figure: Figure) -> None:
        axis = figure.add_subplot(
            yscale="log", xlabel="spatial frequency (cycles per pixel)", ylabel="mean power ([0, 1] squared)"
        )
        lines = (
            ("originals", evidence.originals_power, _INK, "--"),
            ("perturbation", evidence.noise_power, "#D55E00", "-"),
        )
        for label, power, colour, style in lines:
            frequencies, means = radial_mean(power)
            some = means > 0
            axis.plot(frequencies[some], means[some], style, marker="o", markersize=3, color=colour, label=label)
        axis.grid()
        figure.legend(loc="outside lower center", ncol=2, fontsize=9)

    yield _svg("spectrum", "Power by frequency", draw)

    def draw_map(figure: Figure) -> None:
        axis = figure.add_subplot(xlabel="horizontal (cycles per pixel)", ylabel="vertical (cycles per pixel)")
        power = evidence.noise_power
        (top, bottom), (left, right) = map(_edges, power.shape)
        image = axis.imshow(
            power / max(power.sum(), np.finfo(float).tiny), cmap="cividis", extent=(left, right, bottom, top),
            interpolation="nearest", aspect="auto",
        )  # fmt: skip
        figure.colorbar(image, ax=axis, label="share of the power")

    yield _svg("spectrum-map", "Power of the perturbation by direction", draw_map)


def _edges(side: int) -> tuple[float, float]:
    """Where the first of the frequencies of so many pixels begins and the last ends, in cycles per pixel."""
    return (-(side // 2) - 0.5) / side, (side - side // 2 - 0.5) / side


def radial_mean(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a spectrum over directions.

    Args:
        power: float [H, W], frequency 0 in the middle, as `numpy.fft.fftshift` puts it.

    Returns:
        Frequencies in cycles per pixel, each the middle of a ring as wide as the longer side's resolution, and the mean
        power of each ring, both float64 [R]; rings beyond the Nyquist frequency of both axes hold the corners.
    """
    height, width = power.shape
    vertical, horizontal = (np.fft.fftshift(np.fft.fftfreq(side)) for side in (height, width))
    ring = np.rint(np.hypot(vertical[:, None], horizontal) * max(height, width)).astype(int).ravel()
    counts = np.bincount(ring)
    means = np.bincount(ring, power.ravel()) / np.maximum(counts, 1)
    return np.flatnonzero(counts) / max(height, width), means[counts > 0]


def feature_charts(content: Content, evidence: Evidence) -> Iterator[str]:
    """Where test images lie among the features of each network that was asked, a chart a network."""

    def draw(figure: Figure, layout: np.ndarray) -> None:
        axis = figure.add_subplot(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
        for place, label in enumerate(np.unique(evidence.feature_labels)):
            own = evidence.feature_labels == label
            marker = CLASS_MARKERS[place // len(CLASS_COLOURS) % len(CLASS_MARKERS)]
            axis.plot(
                *layout[own].T, marker, markersize=3.5, alpha=0.8, color=CLASS_COLOURS[place % len(CLASS_COLOURS)],
                markeredgewidth=0, label=content.class_names[label].replace("$", r"\$"),
            )  # fmt: skip
        figure.legend(
            loc="outside lower center", ncol=5, fontsize=9, handletextpad=0.1, columnspacing=1, markerscale=1.6
        )

    for number, (title, features) in enumerate(zip(evidence.feature_titles, evidence.features, strict=True)):
        layout = laid_out(features)
        title = str(title).replace("_", " ")
        yield _svg(
            f"features-{number}", title[0].upper() + title[1:], lambda figure, layout=layout: draw(figure, layout),
            colours={},
        )  # fmt: skip


def laid_out(features: np.ndarray) -> np.ndarray:
    """Features float32 [M, D] in two dimensions, float32 [M, 2], the same each time.

    By t-SNE (van der Maaten and Hinton, "Visualizing data using t-SNE", 2008), from the first two principal components.
    Features that are all the same, as a network gives them that died in training, are one point.
    """
    if not np.ptp(features, axis=0).any():
        return np.zeros((len(features), 2), np.float32)
    from sklearn.manifold import TSNE  # imported late: scikit-learn takes a second to load

    tsne = TSNE(init="pca", perplexity=min(30.0, (len(features) - 1) / 3), random_state=0)
    with threadpool_limits(1):  # on a busy machine several threads wait for each other most of the time
        return tsne.fit_transform(features)


def _svg(
    name: str, title: str, draw: Callable[[Figure], None], *, height: float = 3.2, colours: dict[str, str] = COLOURS
) -> str:
    """A chart as a part of an HTML page; the same content gives the same text.

    Args:
        name: identifier, the only one of its kind on the page.
        title: for people.
        draw: draws it.
        height: in inches.
        colours: those which the page replaces, by role.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        # A date, and the address of who made the drawing, say nothing of it.
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # Several charts share a page, and an identifier must be the only one of its kind there.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(_INK, "currentColor")
    for role, colour in colours.items():
        text = text.replace(colour.lower(), f"var(--{role.replace('_', '-')})")
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return f"<figure>\n<figcaption>{escape(title)}</figcaption>\n{text}</figure>"
