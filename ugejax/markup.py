"""What all pages and texts for people share: the frame of an HTML page that needs nothing else, and tables."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
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
h1 { font-size: 1.5rem; line-height: 1.2; overflow-wrap: anywhere; }
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
$style</style>
<h1>$title</h1>
$body
</html>
""")

Cells = Iterable[tuple[str, str]]


def html_page(title: str, body: str, style: str = "") -> str:
    """A whole page, light or dark as its reader has it.

    Args:
        title: text.
        body: HTML below the title.
        style: CSS that the page needs beyond what all have; lines, each with its end.
    """
    return _PAGE.substitute(title=escape(title), body=body, style=style)


def html_table(label: str, head: Sequence[str], lines: Iterable[tuple[str, str, Cells]]) -> str:
    """A table that scrolls within its own box where the page is narrow.

    Args:
        label: what it is of, for those who do not see it.
        head: text of each column; empty for a table without.
        lines: the CSS class and the title of each line, then its cells, each a text and a CSS class.
    """
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rows = [f"<thead><tr>{columns}</tr></thead>"] if head else []
    rows.append("<tbody>")
    for kind, title, cells in lines:
        marked = "".join(
            f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>" for text, mark in cells
        )
        rows.append(f'<tr class="{kind}"><th scope="row">{escape(title)}</th>{marked}</tr>')
    return "\n".join(
        [
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">',
            "<table>", *rows, "</tbody>", "</table>", "</div>",
        ]
    )  # fmt: skip


def html_list(items: Iterable[str]) -> str:
    """Texts as a list."""
    return "\n".join(["<ul>", *(f"<li>{escape(item)}</li>" for item in items), "</ul>"])


def markdown_text(text: str) -> str:
    """A text on one line of Markdown, in which no HTML, link, picture or code begins."""
    text = re.sub(r"[\r\n\t\v\f]+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\[\]`])", r"\\\1", text)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, the first row its head, its columns aligned for whoever reads it as it stands."""
    rows = [[markdown_text(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    rule = "|".join(("-" * (width + 1) + ":") if place else "-" * (width + 2) for place, width in enumerate(widths))
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])
