"""The tables of trainings, in README and docs/results/trainings.md, and their figure: methods by countermeasures.

Every function takes the content of experiments/results/trainings.json, or its rows.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from experiments.columns import JUDGED, control_of, judged
from experiments.tables import MISSING, Row, grouped, table

# README: who gets what.

# The default method's settings in the rows of trainings.
DEFAULT = {"parametrisation": "codes"}
# Countermeasures that need the method's description, and those that need some of the originals.
KNOWS = (
    "class-means", "orthogonal-projection", "key-recovery", "spectrum-notch", "purifier", "exact-word", "class-spectra",
    "class-dictionary", "overlaid-codes", "gradient-projection", "matched-pattern",
)  # fmt: skip
HAS_ORIGINALS = ("clean-", "only-clean-", "fine-tune-", "dfr-", "leaked-", "recovery-")


def who_gets_what(rows: Sequence[Row]) -> str:
    """The partner, strangers and the best hackers of either kind against the default, at the first size of the rows.

    Args:
        rows: of experiments/results/trainings.json.
    """
    ((_, group), *_) = sizes(rows)
    ours = [row for row in group if row["method"] == "uge" and row["settings"] == DEFAULT]
    left = {
        name: mean(row["last"] for row in same)
        for name, same in grouped(ours, lambda row: (row["role"], row["countermeasure"]))
    }

    def line(who: str, role: str, countermeasure: str) -> list[object]:
        own = next(row for row in ours if (row["role"], row["countermeasure"]) == (role, countermeasure))
        of_originals = control(own, group)
        return [who, left[role, countermeasure], None if of_originals is None else of_originals["last"]]

    fought = [name for role, name in left if role == "hacker" and name != "none" and not name.startswith(HAS_ORIGINALS)]
    without, knowing = (
        max(
            (name for name in fought if any(one in name for one in KNOWS) == knows),
            key=lambda name: left["hacker", name],
        )
        for knows in (False, True)
    )
    lines = [
        line("partner: has the key", "authorized", "none"),
        line("stranger", "hacker", "none"),
        line(f"stranger, the best without knowing the method: `{without}`", "hacker", without),
        line(f"stranger, the best who knows the method: `{knowing}`", "hacker", knowing),
    ]
    return table(("who trains", "on the release", "on originals"), lines)


# The trainings at the field's size: methods by countermeasures.

LEAST = 4  # columns of a method in the figure


def sizes(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows by network, images and epochs, in words; of each method with its settings those of the newest version."""

    def method(row: Row) -> str:
        return json.dumps([row["method"], row["settings"], row["knows"]])

    newest = {name: max(row["version"] for row in same) for name, same in grouped(rows, method)}
    return grouped((row for row in rows if row["version"] == newest[method(row)]), size_of)


def trainings(rows: Sequence[Row]) -> str:
    """Two tables for each network and number of images: accuracy with its share, and seconds.

    Args:
        rows: of experiments/results/trainings.json, in any order and number; those of older versions are left out.
    """
    parts = []
    for size, group in sizes(rows):
        columns = list(dict.fromkeys(row["countermeasure"] for row in group))
        cells = dict(grouped(group, lambda row: (trained_on(row), row["countermeasure"])))
        names = sorted(dict.fromkeys(name for name, _ in cells), key=lambda name: not name.startswith("originals"))
        controls = {
            (name, one): cells[name, control_of(one)]
            for name in names
            for one in columns
            if name.startswith("originals") and (name, control_of(one)) in cells
        }
        head, shown = ("trained on", *columns), cells | controls
        parts += [
            f"**{size}**: last epoch, (best epoch), share of the same on originals.",
            table(head, ([name, *(learned(shown.get((name, one)), group) for one in columns)] for name in names)),
            "Seconds of each training.",
            table(head, ([name, *(seconds(cells.get((name, one))) for one in columns)] for name in names)),
        ]
    return "\n\n".join(parts)


def methods(found: Mapping[str, Sequence[Row]]) -> str:
    """A table for each network and number of images: what a method leaves hackers, its budget, distance and cost.

    Args:
        found: content of experiments/results/trainings.json: `rows` and, where they were measured, `releases`.
    """
    head = (
        "method", "mean", "columns", "worst column", "share of clean", "answers renamed", "with the key", "budget",
        "largest change (of 255)", "PSNR (dB)", "seconds to make",
    )  # fmt: skip
    parts = []
    for size, group in sizes(found["rows"]):
        lines = sorted(summaries(group, found.get("releases", [])), key=lambda one: (-one["count"], one["mean"]))
        parts += [f"**{size}**", table(head, map(summary_cells, lines))]
    return "\n\n".join(parts)


def summaries(group: Sequence[Row], releases: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """What a method leaves hackers in the columns by which it is judged, beside what was measured of its release.

    Args:
        group: rows of one network and number of images.
        releases: of any.
    """
    of_methods = [row for row in group if row["method"] != "originals"]
    for name, rows in grouped(of_methods, described):
        by_role = dict(grouped(rows, lambda row: row["role"]))
        columns = dict(grouped(by_role.get("hacker", []), lambda row: row["countermeasure"]))
        left = judged({column: mean(row["last"] for row in cell) for column, cell in columns.items()})
        if not left:
            continue
        controls = [control(row, group) for column in left for row in columns[column]]
        clean = [row["last"] for row in controls if row is not None]
        partner = by_role.get("authorized", [])
        backbones = [row["last"] for one in partner if (row := control(one, group)) is not None]
        renamed = [row["relabelled"] for row in columns.get("none", ()) if row.get("relabelled") is not None]
        worst = max(left, key=lambda column: left[column])
        yield {
            "name": name, "mean": mean(left.values()), "count": len(left), "worst": worst, "of_worst": left[worst],
            "share": mean(left.values()) / mean(clean) if clean and len(clean) == len(controls) else None,
            "renamed": mean(renamed) if renamed else None,
            "partner": mean(row["last"] for row in partner) if partner else None,
            "retention": mean(row["last"] for row in partner) / mean(backbones) if backbones else None,
            "release": next((one for one in releases if is_of(one, rows[0])), None),
        }  # fmt: skip


def is_of(release: Row, row: Row) -> bool:
    """Whether a training knew a release."""
    return all(release[name] == row[name] for name in ("version", "method", "settings", "network", "n_train"))


def summary_cells(line: Mapping[str, Any]) -> list[object]:
    """The cells of a method's line."""
    partner, release = line["partner"], line["release"] or {}
    kept = MISSING if line["retention"] is None else f"{line['retention']:.2f} of clean"
    psnr, seconds_to_make, linf = release.get("psnr"), release.get("seconds"), release.get("linf")
    return [
        line["name"], line["mean"], f"{line['count']} of {JUDGED}", f"{line['worst']}: {line['of_worst']:.3f}",
        MISSING if line["share"] is None else f"{line['share']:.2f}",
        MISSING if line["renamed"] is None else line["renamed"],
        MISSING if partner is None else f"{partner:.3f}, {kept}",
        budget(release), MISSING if linf is None else f"{255 * linf:.0f}", MISSING if psnr is None else f"{psnr:.1f}",
        MISSING if seconds_to_make is None else f"{seconds_to_make:.0f}",
    ]  # fmt: skip


def budget(release: Row) -> str:
    """The radius that a release kept, in words."""
    if not release:
        return MISSING
    if release["norm"] == "l2":
        return f"L2 {release['eps']:.2f}"
    return "none" if release["eps"] == 1 else str(Fraction(release["eps"]).limit_denominator(255))


def points(found: Mapping[str, Sequence[Row]]) -> list[list[Any]]:
    """Of each method whose release was measured, for the figure: size, name, columns, PSNR in dB, hackers' mean."""
    return [
        [size, line["name"], line["count"], round(line["release"]["psnr"], 2), round(line["mean"], 4)]
        for size, group in sizes(found["rows"])
        for line in summaries(group, found.get("releases", []))
        if line["count"] >= LEAST and (line["release"] or {}).get("psnr") is not None
    ]


def plot(found: Mapping[str, Sequence[Row]]) -> str:
    """The figure's place on a page, if there is anything to draw."""
    if not points(found):
        return f"(No figure yet: no method has {LEAST} of these columns and a release whose PSNR was measured.)"
    return (
        "![Hackers' mean accuracy against the PSNR of each method's release: lower leaves them less](../trainings.png)"
    )


def drawn(path: Path) -> list[list[Any]]:
    """The points of a figure, which stand in its file."""
    return json.loads(Image.open(path).info["points"]) if path.exists() else []  # pyright: ignore[reportAttributeAccessIssue]


def draw(path: Path, these: Sequence[Sequence[Any]]) -> None:
    """Draw points, each with its method's name, and write them into the file as well."""
    import matplotlib  # here, since the tables need none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for size, group in grouped(these, lambda point: point[0]):
        axis.plot([point[3] for point in group], [point[4] for point in group], "o", label=size)
        for _, name, count, psnr, left in group:
            text = name if count == JUDGED else f"{name}, {count} of {JUDGED} columns"
            axis.annotate(text, (psnr, left), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axis.set(xlabel="PSNR of the release (dB)", ylabel="hackers' accuracy, mean over columns", ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    shown.savefig(path, dpi=120, metadata={"points": json.dumps(these)})
    plt.close(shown)


# Clean-test accuracy of a ResNet-18 trained on protected CIFAR-10: APBench's leaderboard (apbench/apbench.github.io,
# leaderboard.md, June 2023; Qin et al., APBench, arXiv 2308.03258). It crops and flips in every column.
PUBLISHED = {
    "em": {"none": 0.2078, "grey": 0.9203, "jpeg-10": 0.8072, "cutmix": 0.2228, "bdr": 0.3794},
    "tap": {"none": 0.0627, "grey": 0.1101, "jpeg-10": 0.8408, "cutmix": 0.1421, "bdr": 0.7075},
    "lsp": {"none": 0.1306, "grey": 0.6470, "jpeg-10": 0.8014, "cutmix": 0.1769, "bdr": 0.5386},
    "ar": {"none": 0.1174, "grey": 0.3517, "jpeg-10": 0.8475, "cutmix": 0.1260, "bdr": 0.3614},
    "ops": {"none": 0.1469, "grey": 0.1988, "jpeg-10": 0.7848, "cutmix": 0.6472, "bdr": 0.3732},
}
CLOSE = 0.15  # what a figure may be away from its published one before it is a fault until explained


def beside_published(rows: Sequence[Row]) -> str:
    """A table for each network and number of images: our figures beside published ones, those far apart marked."""
    columns = list(next(iter(PUBLISHED.values())))
    parts = []
    for size, group in sizes(rows):
        hackers = [row for row in group if row["role"] == "hacker" and row["method"] in PUBLISHED]
        cells = dict(grouped(hackers, lambda row: (row["method"], row["countermeasure"])))

        def cell(method: str, column: str, cells: Mapping[Any, Sequence[Row]] = cells) -> str:
            published = PUBLISHED[method][column]
            if not (these := cells.get((method, column))):
                return f"{published:.3f} / {MISSING}"
            here = mean(row["last"] for row in these)
            return f"{published:.3f} / {here:.3f}" + ("" if abs(here - published) <= CLOSE else " !")

        lines = ([method, *(cell(method, column) for column in columns)] for method in PUBLISHED)
        parts += [f"**{size}**: published / here", table(("method", *columns), lines)]
    return "\n\n".join(parts)


def size_of(row: Row) -> str:
    """Network, images and epochs of a training."""
    epochs = row["recipe"]["epochs"]
    return f"{row['network']}, {row['n_train']:,} training and {row['n_test']:,} test images, {epochs} epochs"


def trained_on(row: Row) -> str:
    """What a training learned from: the method with those of its settings that are not the defaults."""
    if row["method"] == "originals" and row["knows"]:
        return f"originals, knowing {described(row['knows'])}"
    return described(row) + (", with the key" if row["role"] == "authorized" else "")


def described(method: Mapping[str, Any]) -> str:
    """A method and those of its settings that are not the defaults."""
    settings = ", ".join(
        f"{name}={'+'.join(value) if isinstance(value, list) else value}" for name, value in method["settings"].items()
    )
    return f"{method['method']} ({settings})" if settings else method["method"]


def learned(cell: Sequence[Row] | None, group: Sequence[Row]) -> str:
    """Last accuracy, peak in brackets and share of the control: means over the seeds of the cell."""
    if not cell:
        return MISSING
    last, peak = (mean(row[name] for row in cell) for name in ("last", "peak"))
    controls = [row for one in cell if (row := control(one, group)) is not None]
    of_clean = f"{last / mean(row['last'] for row in controls):.2f}" if len(controls) == len(cell) else MISSING
    parts = [f"{last:.3f} ({peak:.3f})"]
    parts += [of_clean] if cell[0]["method"] != "originals" else []
    parts += [f"{len(cell)} seeds"] if len(cell) > 1 else []
    return ", ".join(parts)


def control(one: Row, group: Iterable[Row]) -> Row | None:
    """The same training on originals: the recipe, countermeasure and seed, and what is known of the method, agree."""
    known = {"method": one["method"], "settings": one["settings"]}
    for row in group:
        same = all(row[name] == one[name] for name in ("recipe", "seed"))
        same = same and row["countermeasure"] == control_of(one["countermeasure"])
        if row["method"] == "originals" and same and row["knows"] in (None, known):
            return row
    return None


def seconds(cell: Sequence[Row] | None) -> str:
    """Mean seconds of a cell's trainings."""
    return f"{mean(row['seconds'] for row in cell):.0f}" if cell else MISSING
