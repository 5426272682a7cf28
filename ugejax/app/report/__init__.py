"""What people look at: the table, the pictures, and the report of an evaluation as a page and as text."""

from pathlib import Path

from ugejax.app.files import replace_text
from ugejax.app.report.content import read_content
from ugejax.app.report.evidence import gather, write_evidence
from ugejax.app.report.markdown import to_markdown
from ugejax.app.report.page import to_html
from ugejax.app.report.pictures import draw_curves, draw_images
from ugejax.app.report.table import print_table

__all__ = ["draw_curves", "draw_images", "gather", "print_table", "write_evidence", "write_report"]


def write_report(run: Path) -> list[Path]:
    """Write report.html and report.md into the folder of an evaluation, from what it left there.

    Raises:
        UserError: the folder holds no evaluation, or cannot be written.
    """
    content = read_content(run)
    texts = {run / "report.html": to_html(content), run / "report.md": to_markdown(content, run)}
    for path, text in texts.items():
        replace_text(path, text, otherwise="copy the folder to where you may write")
    return list(texts)
