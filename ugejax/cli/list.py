"""`ugejax list`: what can be named on the command line."""

import argparse
import inspect
import sys
from fractions import Fraction

from rich.console import Console
from rich.table import Table

from ugejax.baselines import BASELINES, BaselineMethod, assignments_of
from ugejax.countermeasures import COUNTERMEASURES
from ugejax.evaluation import DISTILLATIONS
from ugejax.exchange import EXCHANGE_FORMS
from ugejax.networks import NETWORKS
from ugejax.views import FORMS


def run(arguments: argparse.Namespace) -> int:
    """Print the registries."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140)
    summaries = {name: (inspect.getdoc(network.build) or "").split("\n")[0] for name, network in NETWORKS.items()}
    console.print(_table("networks", summaries))
    methods = {"uge": "UnGeneralizable Examples: learnable for the holder of the key"}
    console.print(_table("methods", methods | {name: method.summary for name, method in BASELINES.items()}))
    console.print(_table("baselines: budget and settings (--set)", {n: _settings(m) for n, m in BASELINES.items()}))
    console.print(_table("authorized forms", {name: form.summary for name, form in FORMS.items()}))
    console.print(_table("counter-measures", {name: c.summary for name, c in COUNTERMEASURES.items()}))
    console.print(_table("distillation", {name: d.summary for name, d in DISTILLATIONS.items()}))
    console.print(_table("exchange forms", {name: f.summary for name, f in EXCHANGE_FORMS.items()}))
    return 0


def _settings(method: BaselineMethod) -> str:
    """A baseline's budget, and what --set may change of it with the defaults."""
    if method.eps is None:
        budget = "no budget"
    elif method.norm == "linf":
        budget = f"linf {Fraction(method.eps).limit_denominator(255)}"
    else:
        budget = f"l2 {method.eps:.3g}, for 32x32x3 images"
    return "; ".join([budget, *assignments_of(method.settings)])


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table
