"""`ugejax list`: what can be named on the command line."""

import argparse
import inspect
import sys

from rich.console import Console
from rich.table import Table

from ugejax.authorized import FORMS
from ugejax.countermeasures import COUNTERMEASURES
from ugejax.networks import NETWORKS


def run(arguments: argparse.Namespace) -> int:
    """Print the registries."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140)
    summaries = {name: (inspect.getdoc(build) or "").split("\n")[0] for name, build in NETWORKS.items()}
    console.print(_table("networks", summaries))
    console.print(_table("authorized forms", {name: form.summary for name, form in FORMS.items()}))
    kinds = {
        name: "augments"
        if c.augment
        else "adapts to the release"
        if c.adapt
        else "preprocesses"
        if c.preprocess
        else ""
        for name, c in COUNTERMEASURES.items()
    }
    console.print(_table("counter-measures", kinds))
    return 0


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table
