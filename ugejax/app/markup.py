"""What all pages and texts for people share: pages of HTML from templates, and tables and texts of Markdown."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jinja2


def html_page(template: str, **content: Any) -> str:
    """A page that needs nothing else.

    Args:
        template: file in `ugejax/app/templates`.
        content: what it shows. All that is no `markupsafe.Markup` is text, in which no HTML begins.
    """
    return _templates().get_template(template).render(content)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ugejax.app"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


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
