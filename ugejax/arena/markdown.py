"""The leaderboard as Markdown, its columns aligned for whoever reads it as it stands."""

from typing import Any

from ugejax.arena.leaderboard import Cell, Leaderboard
from ugejax.arena.wording import COSTS, cost_cells, describe, figure, notes


def to_markdown(board: Leaderboard, facts: dict[str, Any]) -> str:
    """The text of `leaderboard.md`; facts are those of `results.json`."""
    main = [("trained on", *board.columns)]
    main += [(line.title, *(_mark(cell) for cell in line.cells)) for line in board.lines]
    legend = "\n".join(f"- {note}" for note in notes(board))
    costs = _table([COSTS, *map(cost_cells, board.costs)])
    return "\n\n".join(["# Arena", describe(board, facts), _table(main), legend, "## Releases", costs]) + "\n"


def _mark(cell: Cell) -> str:
    return f"**{figure(cell)}**" if cell.best else figure(cell)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    rule = "|".join(("-" * (width + 1) + ":") if place else "-" * (width + 2) for place, width in enumerate(widths))
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])
