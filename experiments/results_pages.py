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
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.tables import MISSING, Row, grouped, table
from experiments.training_tables import beside_published, draw, drawn, methods, plot, points, trainings, who_gets_what

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PLOT = ROOT / "docs" / "trainings.png"


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


def role(row: Row) -> str:
    """The role of a row in words."""
    return row["role"].replace("_", " ")


# The columns that every evaluation has: what a network learns from the originals and from the release.
ACCURACIES = ("on originals", "on the release", "peak")


def accuracies(row: Row) -> list[Any]:
    """The cells of `ACCURACIES`: last epoch on either, and the best epoch on the release."""
    return [row[f"{kind}_accuracy"] for kind in ("clean", "protected", "protected_peak")]


# Results but trainings, one function a table.


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
    "trainings-figure": lambda: plot(results("trainings")),
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
