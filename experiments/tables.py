"""Tables in Markdown, made row by row, so that each row can be printed when it is known."""


def table_head(*names: str) -> str:
    """The two lines that a table begins with, for columns of these names."""
    return f"{table_row(*names)}\n" + "|---" * len(names) + "|"


def table_row(*cells: object) -> str:
    """The line of a row; cells are written as `str` writes them, and an empty one is one blank wide."""
    return "|" + "".join(f" {text} |" if text else " |" for text in map(str, cells))


def figure(value: float | None) -> str:
    """A fraction as a cell, such as an accuracy: three digits, nothing for None."""
    return "" if value is None else f"{value:.3f}"
