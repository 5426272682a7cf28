"""The leaderboard as one HTML file that needs nothing else."""

from typing import Any

from ugejax.app.arena.leaderboard import Leaderboard
from ugejax.app.arena.wording import COSTS, cost_cells, describe, figure, notes
from ugejax.app.markup import html_page


def to_html(board: Leaderboard, facts: dict[str, Any]) -> str:
    """The text of `leaderboard.html`; facts are those of `results.json`."""
    lines = [
        (line.kind, line.title, [(figure(cell), "best" if cell.best else "") for cell in line.cells])
        for line in board.lines
    ]
    return html_page(
        "leaderboard.html", title=f"Arena: {facts['dataset']}", description=describe(board, facts),
        head=("trained on", *board.columns), lines=lines, notes=notes(board), costs_head=COSTS,
        costs=[("", name, [(text, "") for text in texts]) for name, *texts in map(cost_cells, board.costs)],
    )  # fmt: skip
