"""The tables of the documentation, and a figure, filled in from the results that are committed.

Command:
    python -m experiments.results_pages

Time: seconds; nothing is trained.

Expect: in README.md and docs/, every block between `<!-- table NAME -->` and `<!-- end -->` holds the table NAME of
this module, made from experiments/results. The text around a block is written by hand and stays. Where nothing has
changed, no file changes: a test asks for that. docs/trainings.png is drawn anew where its points have changed.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from experiments.columns import JUDGED, control_of, judged
from experiments.tables import figure, table_head, table_row

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What stands for a cell that has not been measured.
MISSING = "–"
Row = Mapping[str, Any]


def pages() -> list[Path]:
    """The files that may have blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A page with the table of its name in each block.

    Raises:
        KeyError: there is no table of that name.
    """
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}\n{block[3]}", text)


def results(name: str) -> dict[str, Any]:
    """The content of a committed results file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a committed results file."""
    return results(name)["rows"]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; cells that are floats are accuracies or shares, None is an empty cell."""
    shown = [[figure(cell) if isinstance(cell, float | None) else cell for cell in row] for row in rows]
    return "\n".join([table_head(*head), *(table_row(*row) for row in shown)])


def role(row: Row) -> str:
    """The role of a row in words."""
    return row["role"].replace("_", " ")


# The columns that every evaluation has: what a network learns from the originals and from the release.
ACCURACIES = ("on originals", "on the release", "peak")


def accuracies(row: Row) -> list[Any]:
    """The cells of `ACCURACIES`: last epoch on either, and the best epoch on the release."""
    return [row[f"{kind}_accuracy"] for kind in ("clean", "protected", "protected_peak")]


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

PLOT = ROOT / "docs" / "trainings.png"
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


def plot() -> str:
    """The figure's place on a page, if there is anything to draw."""
    if not points(results("trainings")):
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


def grouped(rows: Iterable[Any], by: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    """Rows by what a function says of them, in the order in which that is first met."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.items())


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


# Other results, one function a table.


def both_sides(*names: str) -> str:
    """Who learns what: rows of evaluations, with the backbone's own accuracy for authorized networks."""
    rows = [row for name in names for row in rows_of(name)]
    lines = (
        [role(row), row["network"], row["countermeasure"], *accuracies(row), row.get("backbone_accuracy")]
        for row in rows
    )
    return table(("role", "network", "countermeasure", *ACCURACIES, "backbone"), lines)


def countermeasures(name: str) -> str:
    """Hackers of one results file, each with its share of the same countermeasure on originals."""
    hackers = [row for row in rows_of(name) if row["role"] == "hacker"]
    lines = ([row["countermeasure"], *accuracies(row), row["retention"]] for row in hackers)
    return table(("countermeasure", *ACCURACIES, "share"), lines)


def generator_beside_stripes() -> str:
    """Shares of a generator's release beside those of the default release under the same countermeasures."""
    default = {
        row["countermeasure"]: row["retention"] for row in rows_of("countermeasures-small") if row["role"] == "hacker"
    }
    hackers = [row for row in rows_of("countermeasures-generator-small") if row["role"] == "hacker"]
    lines = (
        [row["countermeasure"], *accuracies(row), row["retention"], default[row["countermeasure"]]] for row in hackers
    )
    return table(("countermeasure", *ACCURACIES, "share", "share of stripes"), lines)


def sets(name: str) -> str:
    """Data sets by authorized networks: each side's accuracy."""
    head = ("set", "images", "classes", "training images", "authorized", "backbone", "on originals", "on the release")

    def lines() -> Iterable[list[Any]]:
        for row in rows_of(name):
            (ours,) = [one for one in row["rows"] if one["role"] == "authorized"]
            hackers = [one for one in row["rows"] if one["role"] == "hacker"]
            shape = "x".join(map(str, row["image_shape"]))
            yield [
                row["set"], shape, row["classes"], row["n_train"], row["authorized"], ours["backbone_accuracy"],
                ours["clean_accuracy"], ours["protected_accuracy"],
                *(mean(one[f"{kind}_accuracy"] for one in hackers) for kind in ("clean", "protected")),
                max(one["protected_peak_accuracy"] for one in hackers),
            ]  # fmt: skip

    return table((*head, "hackers: on originals", "on the release", "best peak"), lines())


def variants(name: str, field: str, title: str) -> str:
    """Rows of an experiment that varies one thing, which `field` names."""
    lines = ([row[field], role(row), row["network"], *accuracies(row)] for row in rows_of(name))
    return table((title, "role", "network", *ACCURACIES), lines)


def ablation(name: str, field: str, title: str) -> str:
    """As `variants`, with the PSNR of each release in dB."""
    lines = ([row[field], f"{row['psnr']:.2f}", role(row), row["network"], *accuracies(row)] for row in rows_of(name))
    return table((title, "PSNR (dB)", "role", "network", *ACCURACIES), lines)


def blind_sets() -> str:
    """Blind sets by hackers' countermeasures, with the hackers' accuracy on originals in the first line."""
    rows = rows_of("blind-sets-tiny")
    columns = list(dict.fromkeys(row["countermeasure"] for row in rows if row["role"] == "hacker"))
    lines: list[list[Any]] = []
    for name, group in grouped(rows, lambda row: row["blind_set"]):
        (ours,) = [row for row in group if row["role"] == "authorized"]
        hackers = {row["countermeasure"]: row for row in group if row["role"] == "hacker"}
        if not lines:
            lines.append(["on originals", None, None, None, *(hackers[one]["clean_accuracy"] for one in columns)])
        cells = [ours[f"{kind}_accuracy"] for kind in ("backbone", "clean", "protected")]
        lines.append([name, *cells, *(hackers[one]["protected_accuracy"] for one in columns)])
    return table(("blind set", "backbone", "authorized: on originals", "on the release", *columns), lines)


def several_keys() -> str:
    """What is left of the budget, and what a hacker gets, by number of keys."""
    hackers = [row for row in rows_of("several-keys-tiny") if row["role"] == "hacker"]
    lines = ([row["keys"], row["share_calculated"], row["share_measured"], *accuracies(row)] for row in hackers)
    return table(("keys", "budget left: calculated", "measured", *ACCURACIES), lines)


def two_releases() -> str:
    """What a hacker learns from two releases of the same originals."""
    found = results("several-keys-tiny")
    lines = (
        [name, f"{levels:.2f}", *accuracies(row)]
        for name, levels in found["texture_left"].items()
        for row in found["leaks"][name]
    )
    return table(("what the hacker has", "texture of a class left (grey levels)", *ACCURACIES), lines)


def generator() -> str:
    """Perturbations that are learned on some images and written on those and on others."""
    lines = (
        [name, role(row), row["countermeasure"], *accuracies(row)]
        for name, rows in results("generator-tiny")["rows"].items()
        for row in rows
    )
    return table(("perturbation, images", "role", "countermeasure", *ACCURACIES), lines)


def federated() -> str:
    """Means over the last ten rounds of federated averaging."""
    lines = (
        [
            row["split"], f"{min(row['sizes'])} to {max(row['sizes'])}", row["who"],
            *(mean(row[kind][-10:]) for kind in ("originals", "release")), max(row["release"]),
        ]
        for row in rows_of("federated-tiny")
    )  # fmt: skip
    return table(("split", "clients' sizes", "who", *ACCURACIES), lines)


def distillation() -> str:
    """Students of authorized networks that were trained on the release."""
    names = ("variant", "queries", "answers", "student")
    lines = (
        [*(row[name] for name in names), *(row[f"{one}_accuracy"] for one in ("teacher", "student", "student_peak"))]
        for row in rows_of("distillation-tiny")
        if row["teacher"] == "release" and row["student"] == "res-tiny"
    )
    return table((*names, "teacher", "student's last", "peak"), lines)


def arena() -> str:
    """The leaderboard of the committed arena, from its first table on."""
    text = (RESULTS / "arena-cifar10-small" / "leaderboard.md").read_text()
    return re.sub(r"^#+ (.*)$", r"**\1**", text[text.index("|") :].strip(), flags=re.MULTILINE)


def bench() -> str:
    """Steps beside PyTorch and beside the commit that the head names, where they were timed: each a ratio of rates."""
    lines = (
        [
            (row["loss"] or row["name"]).replace("_", " "), row["network"], row["batch"], row["steps"],
            f"{row['images_per_second']:.0f}", *(
                MISSING if row[name] is None else f"{row[name]:.{digits}f}"
                for name, digits in (("torch_images_per_second", 0), ("ratio_to_torch", 2), ("ratio_to_before", 2))
            ),
            f"{row['utilisation']:.2f}", f"{row['peak_rss_mib']:.0f}", f"{row['compile_seconds']:.1f}",
        ]
        for row in rows_of("bench-one-core")
    )  # fmt: skip
    head = ("step", "network", "batch", "steps on it", "images/s", "PyTorch", "ratio", "ratio to 0b78fad")
    return table((*head, "of the product's rate", "MiB", "compile s"), lines)


def lowerings() -> str:
    """GFLOP/s of each way to compile a convolution: forward / derivative by the maps / by the kernel."""
    ways = {"XLA's own": "XLA's own", "as XLA likes": "XLA's default"}
    lines = []
    for shape, group in groupby(rows_of("bench-lowerings"), key=lambda row: row["shape"]):
        rates = [" / ".join(f"{row[name]:.3g}" for name in ("forward", "by maps", "by kernel")) for row in group]
        lines.append([shape, *rates])
    return table(("maps and kernel", *ways.values(), "products or shifts"), lines)


def together() -> str:
    """Several hackers in one program beside one after the other."""
    lines = (
        [
            row["network"], row["count"], row["backend"], f"{row['alone_seconds']:.1f}",
            f"{row['together_seconds']:.1f}", f"{row['ratio']:.2f}",
        ]
        for row in rows_of("bench-together")
    )  # fmt: skip
    return table(("network", "hackers", "backend", "one after the other (s)", "together (s)", "ratio"), lines)


TABLES: dict[str, Callable[[], str]] = {
    "who-gets-what": lambda: who_gets_what(rows_of("trainings")),
    "trainings": lambda: trainings(rows_of("trainings")),
    "trainings-methods": lambda: methods(results("trainings")),
    "trainings-figure": plot,
    "trainings-published": lambda: beside_published(rows_of("trainings")),
    "full-size": lambda: both_sides("full-size-cnn"),
    "three-keys": lambda: both_sides("robustness-none-small", "robustness-crop-flip-small"),
    "countermeasures": lambda: countermeasures("countermeasures-small"),
    "countermeasures-more": lambda: countermeasures("countermeasures-more-small"),
    "countermeasures-last-layer": lambda: countermeasures("countermeasures-last-layer-small"),
    "countermeasures-combined": lambda: countermeasures("countermeasures-combined-small"),
    "countermeasures-field": lambda: countermeasures("countermeasures-field-small"),
    "countermeasures-generator": generator_beside_stripes,
    "main-table": lambda: sets("main-table-tiny"),
    "data-sets": lambda: sets("datasets-tiny"),
    "feature-spaces": lambda: variants("feature-spaces-tiny", "feature_space", "feature space"),
    "ablation-eps": lambda: ablation("ablation-eps-tiny", "eps", "budget"),
    "ablation-period": lambda: ablation("ablation-period-tiny", "period", "period"),
    "ablation-dither-step": lambda: ablation("ablation-dither-step-tiny", "dither step", "step (grey levels)"),
    "ablation-losses": lambda: ablation("ablation-losses-tiny", "losses", "losses (`frozen-backbone`)"),
    "ablation-surrogates": lambda: ablation("ablation-surrogates-tiny", "surrogates", "surrogates"),
    "blind-sets": blind_sets,
    "several-keys": several_keys,
    "two-releases": two_releases,
    "generator": generator,
    "federated": federated,
    "distillation": distillation,
    "arena": arena,
    "bench": bench,
    "bench-lowerings": lowerings,
    "bench-together": together,
}


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page in pages():
        text = page.read_text()
        if (new := filled(text)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))
    if (these := points(results("trainings"))) != drawn(PLOT):
        draw(PLOT, these)
        print(PLOT.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
