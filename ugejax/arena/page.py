"""The leaderboard as one HTML file that needs nothing else."""

from html import escape
from typing import Any

from ugejax.arena.leaderboard import Leaderboard
from ugejax.arena.wording import COSTS, cost_cells, describe, figure, notes
from ugejax.markup import html_list, html_page, html_table


def to_html(board: Leaderboard, facts: dict[str, Any]) -> str:
    """The text of `leaderboard.html`; facts are those of `results.json`."""
    lines = [
        (line.kind, line.title, [(figure(cell), "best" if cell.best else "") for cell in line.cells])
        for line in board.lines
    ]
    costs = [("", name, [(text, "") for text in texts]) for name, *texts in map(cost_cells, board.costs)]
    body = [
        f"<p>{escape(describe(board, facts))}</p>",
        html_table("Accuracy", ("trained on", *board.columns), lines),
        html_list(notes(board)),
        "<h2>Releases</h2>",
        html_table("Releases", COSTS, costs),
    ]
    return html_page(f"Arena: {facts['dataset']}", "\n".join(body))
