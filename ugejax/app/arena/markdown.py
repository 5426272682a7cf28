"""The leaderboard as Markdown, its columns aligned for whoever reads it as it stands."""

from typing import Any

from ugejax.app.arena.leaderboard import Cell, Leaderboard
from ugejax.app.arena.wording import COSTS, cost_cells, describe, figure, notes
from ugejax.app.markup import markdown_table, markdown_text


def to_markdown(board: Leaderboard, facts: dict[str, Any]) -> str:
    """The text of `leaderboard.md`; facts are those of `results.json`."""
    main = [("trained on", *board.columns)]
    main += [(line.title, *(_mark(cell) for cell in line.cells)) for line in board.lines]
    legend = "\n".join(f"- {markdown_text(note)}" for note in notes(board))
    costs = markdown_table([COSTS, *map(cost_cells, board.costs)])
    return (
        "\n\n".join(
            ["# Arena", markdown_text(describe(board, facts)), markdown_table(main), legend, "## Releases", costs]
        )
        + "\n"
    )


def _mark(cell: Cell) -> str:
    return f"**{figure(cell)}**" if cell.best else figure(cell)
