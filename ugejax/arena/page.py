"""The leaderboard as one HTML file that needs nothing else."""

from html import escape
from string import Template
from typing import Any

from ugejax.arena.leaderboard import Leaderboard
from ugejax.arena.wording import COSTS, cost_cells, describe, figure, notes

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --page: #fcfcfb; --text: #1b1f24; --quiet: #57606a; --rule: #d5d9de; --control: #eef1f4; --best: #cfe8d5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --text: #e4e7ea; --quiet: #9aa4ae; --rule: #373e45; --control: #20262b; --best: #1f4a2e;
  }
}
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 75rem;
  background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.15rem; margin-top: 2.5rem; }
p, li { max-width: 45rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; color: var(--quiet); font-size: 0.9rem; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; border-block: 1px solid var(--rule); }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.7rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--rule); }
thead th { border-top: 0; vertical-align: bottom; white-space: normal; color: var(--quiet); font-weight: 600; }
th:first-child { position: sticky; left: 0; text-align: left; background: var(--page); }
tbody th { font-weight: 600; border-right: 1px solid var(--rule); }
.control > th:first-child, .control > td { background: var(--control); }
.best { background: var(--best); font-weight: 700; }
@media (max-width: 40rem) {
  th, td { padding: 0.35rem 0.5rem; }
  th:first-child { max-width: 7rem; white-space: normal; }
}
</style>
<h1>$title</h1>
<p>$description</p>
<div class="scroll" tabindex="0" role="region" aria-label="Accuracy">
<table>
$main
</table>
</div>
<ul>
$notes
</ul>
<h2>Releases</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Releases">
<table>
$costs
</table>
</div>
</html>
""")


def to_html(board: Leaderboard, facts: dict[str, Any]) -> str:
    """The text of `leaderboard.html`; facts are those of `results.json`."""
    lines = [(line.kind, line.title, [(figure(cell), cell.best) for cell in line.cells]) for line in board.lines]
    costs = [("", name, [(text, False) for text in texts]) for name, *texts in map(cost_cells, board.costs)]
    return PAGE.substitute(
        title=escape(f"Arena: {facts['dataset']}"),
        description=escape(describe(board, facts)),
        main=_table(("trained on", *board.columns), lines),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in notes(board)),
        costs=_table(COSTS, costs),
    )


def _table(head: tuple[str, ...], lines: list[tuple[str, str, list[tuple[str, bool]]]]) -> str:
    """The head and, each of a class and a title, the lines, whose cells are marked or not."""
    rows = [
        "<thead><tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in head) + "</tr></thead>",
        "<tbody>",
    ]
    for kind, title, cells in lines:
        marked = "".join(f'<td class="best">{text}</td>' if best else f"<td>{text}</td>" for text, best in cells)
        rows.append(f'<tr class="{kind}"><th scope="row">{escape(title)}</th>{marked}</tr>')
    return "\n".join([*rows, "</tbody>"])
