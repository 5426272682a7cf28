"""`ugejax report`: print an evaluation's table, or an arena's leaderboard, again."""

import argparse
import json
import sys

from rich.console import Console

from ugejax.errors import UserError
from ugejax.report import print_table


def run(arguments: argparse.Namespace) -> int:
    """Print RUN/leaderboard.md where there is one, else the table of RUN/results.json."""
    leaderboard = arguments.run / "leaderboard.md"
    if leaderboard.is_file():
        print(leaderboard.read_text(), end="")
        return 0
    file = arguments.run / "results.json"
    try:
        results = json.loads(file.read_text())
        print_table(results, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140))
    except FileNotFoundError as error:
        raise UserError(f"{file}: not there; give the folder that `ugejax evaluate --out` made") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the results of an evaluation ({error!r})") from error
    return 0
