"""Tables in Markdown, made row by row, so that each row can be printed when it is known, or whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# What stands for a cell that has not been measured.
MISSING = "–"
Row = Mapping[str, Any]  # of results


def table_head(*names: str) -> str:
    """The two lines that a table begins with, for columns of these names."""
    return f"{table_row(*names)}\n" + "|---" * len(names) + "|"


def table_row(*cells: object) -> str:
    """The line of a row; cells are written as `str` writes them, and an empty one is one blank wide."""
    return "|" + "".join(f" {text} |" if text else " |" for text in map(str, cells))


def figure(value: float | None) -> str:
    """A fraction as a cell, such as an accuracy: three digits, nothing for None."""
    return "" if value is None else f"{value:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; cells that are floats are accuracies or shares, None is an empty cell."""
    shown = [[figure(cell) if isinstance(cell, float | None) else cell for cell in row] for row in rows]
    return "\n".join([table_head(*head), *(table_row(*row) for row in shown)])


def grouped(rows: Iterable[Any], by: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    """Rows by what a function says of them, in the order in which that is first met."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.items())
