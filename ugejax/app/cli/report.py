"""`ugejax report`: an evaluation as a page and as text, or an arena's leaderboard again."""

import argparse
import json
import sys

from rich.console import Console

from ugejax.app.report import print_table, write_report
from ugejax.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Print RUN/leaderboard.md where there is one; else make report.html and report.md, and print the table."""
    leaderboard = arguments.run / "leaderboard.md"
    if leaderboard.is_file():
        print(leaderboard.read_text(encoding="utf-8"), end="")
        return 0
    page, text = write_report(arguments.run)
    file = arguments.run / "results.json"
    try:
        results = json.loads(file.read_text())
        print_table(results, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the results of an evaluation ({error!r})") from error
    print(f"{page}: open it in a browser; {text.name} beside it says the same as text")
    return 0
