"""A report as Markdown, for whoever reads text; its pictures are those beside it."""

from collections.abc import Iterable
from pathlib import Path

from ugejax.app.markup import markdown_table, markdown_text
from ugejax.app.report.content import HEAD, TABLE_NOTES, Content, image_title, images_note, table_cells

PICTURES = {
    "images.png": "Originals, what is released, and the difference, an image a class",
    "accuracy.png": "Accuracy per epoch, a panel a countermeasure",
}


def to_markdown(content: Content, folder: Path) -> str:
    """The text of `report.md`, which lies in a folder with the pictures of an evaluation."""
    parts = [
        f"# {markdown_text(content.title)}",
        f"**{markdown_text(content.verdict)}**",
        markdown_text(content.uncertainty),
        "## What was protected",
        _pairs(content.facts),
    ]
    if content.settings:
        parts += ["### All settings of the method", _pairs(content.settings)]
    if (evidence := content.evidence) is not None:
        titles = [image_title(content, evidence, place) for place in range(len(evidence.index))]
        parts += ["## Images", markdown_text(images_note(content)), _items(titles)]
    parts += [f"![{title}]({name})" for name, title in PICTURES.items() if (folder / name).is_file()]
    parts += [
        "## Who learns what",
        markdown_table([HEAD, *map(table_cells, content.groups)]),
        _items(TABLE_NOTES),
        "## Limits",
        _items(content.limits),
    ]
    return "\n\n".join(parts) + "\n"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return _items(f"{name}: {value}" for name, value in pairs)


def _items(items: Iterable[str]) -> str:
    return "\n".join(f"- {markdown_text(item)}" for item in items)
