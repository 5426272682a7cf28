"""The leaderboard: means of rows, each method beside the clean control."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import mean

from ugejax.app.arena.rows import Row
from ugejax.countermeasures.registry import place_of
from ugejax.evaluation.plan import AUTHORIZED_COUNTERMEASURES


@dataclass(frozen=True)
class Cell:
    """A mean over networks and seeds.

    Attributes:
        value: the mean; None where there is nothing to take it of.
        complete: whether every network and seed of the arena is in it; no other is compared.
        best: whether no method has a lower one, to three decimals.
    """

    value: float | None
    complete: bool
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the main table.

    Attributes:
        title: the method, or who else it is about.
        kind: "control", "authorized" or "method".
        cells: one for each of the leaderboard's columns.
    """

    title: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Cost:
    """What a method's releases cost: means over seeds, and of the budget the largest change of any image."""

    method: str
    psnr: float | None
    ssim: float
    linf: float
    l2: float
    seconds: float | None


@dataclass(frozen=True)
class Leaderboard:
    """What there is to show.

    Attributes:
        columns: the mean over the countermeasures; the share of clean, which is the mean accuracy on the release over
            that on the originals, of the same rows; then each countermeasure.
        networks: of the hackers.
        seeds: how many.
        lines: the clean control, the authorized network, then the methods, the lowest mean first.
        costs: of the methods in the same order.
        mixed: whether the rows were not all made by the same code on the same kind of device.
    """

    columns: tuple[str, ...]
    networks: tuple[str, ...]
    seeds: int
    lines: tuple[Line, ...]
    costs: tuple[Cost, ...]
    mixed: bool


def make_leaderboard(rows: list[Row]) -> Leaderboard:
    """The leaderboard of an arena's rows, of which some may not be there yet."""
    hackers = [row for row in rows if row["role"] == "hacker"]
    authorized = [row for row in rows if row["role"] == "authorized"]
    # One training on the originals serves all methods.
    controls = list({(row["seed"], row["network"], row["countermeasure"]): row for row in hackers}.values())
    countermeasures = tuple(sorted({row["countermeasure"] for row in rows}, key=place_of))
    networks = tuple(dict.fromkeys(row["network"] for row in hackers))
    seeds = len({row["seed"] for row in rows})
    expected_rows = len(networks) * seeds
    groups = {name: [row for row in hackers if row["method"] == name] for name in [row["method"] for row in hackers]}
    methods = [
        Line(name, "method", _cells(group, "protected_accuracy", countermeasures, countermeasures, expected_rows))
        for name, group in groups.items()
    ]
    lines = [
        Line(
            "originals", "control", _cells(controls, "clean_accuracy", countermeasures, countermeasures, expected_rows)
        )
    ]
    if authorized:
        expected = tuple(name for name in countermeasures if name in AUTHORIZED_COUNTERMEASURES)
        cells = _cells(authorized, "protected_accuracy", countermeasures, expected, seeds)
        lines.append(Line("authorized", "authorized", cells))
    lines += sorted(_mark_best(methods), key=_rank)
    costs = [_cost(line.title, groups[line.title]) for line in lines if line.kind == "method"]
    columns = ("mean", "share of clean", *countermeasures)
    mixed = len({row["environment"] for row in rows}) > 1
    return Leaderboard(columns, networks, seeds, tuple(lines), tuple(costs), mixed)


def _cells(
    rows: list[Row], accuracy: str, countermeasures: tuple[str, ...], expected: tuple[str, ...], expected_rows: int
) -> tuple[Cell, ...]:
    """The cells of a line that takes part in the expected countermeasures, with so many rows in each."""
    groups = {name: [row[accuracy] for row in rows if row["countermeasure"] == name] for name in countermeasures}
    cells = [Cell(_mean(group), len(group) == expected_rows) for group in groups.values()]
    complete = all(len(groups[name]) == expected_rows for name in expected)
    average, clean = _mean(row[accuracy] for row in rows), _mean(row["clean_accuracy"] for row in rows)
    share = average / clean if average is not None and clean else None
    comparable = complete and expected == countermeasures
    return (Cell(average if comparable else None, complete), Cell(share, complete), *cells)


def _mark_best(lines: list[Line]) -> list[Line]:
    """The lines with the lowest complete cell of each column marked, where there are several to compare."""
    marked = []
    for column in zip(*(line.cells for line in lines), strict=True):
        shown = [round(cell.value, 3) if cell.complete and cell.value is not None else None for cell in column]
        values = [value for value in shown if value is not None]
        best = min(values) if len(values) > 1 else math.nan
        marked.append([replace(cell, best=value == best) for cell, value in zip(column, shown, strict=True)])
    return [replace(line, cells=cells) for line, cells in zip(lines, zip(*marked, strict=True), strict=True)]


def _rank(line: Line) -> tuple[bool, float]:
    """By the mean; methods that are not done come last."""
    average = line.cells[0].value
    return average is None, average or 0.0


def _cost(method: str, rows: list[Row]) -> Cost:
    releases = list({row["seed"]: row for row in rows}.values())
    return Cost(
        method,
        psnr=_mean(row["psnr_mean"] for row in releases if row["psnr_mean"] is not None),
        ssim=mean(row["ssim_mean"] for row in releases),
        linf=max(row["realised_linf"] for row in releases),
        l2=max(row["realised_l2"] for row in releases),
        seconds=_mean(row["generation_seconds"] for row in releases if row["generation_seconds"] is not None),
    )


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return mean(values) if values else None
