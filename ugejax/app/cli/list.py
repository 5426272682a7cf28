"""`ugejax list`: what can be named on the command line."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from ugejax.app.cli import OWN_FORMS
from ugejax.errors import UserError

# Written by `ugejax.app.cli.catalogue`.
CATALOGUE = Path(__file__).with_name("catalogue.json")
_REGISTRIES = (
    "baselines/registry.py", "countermeasures/registry.py", "evaluation/distillation.py",
    "app/exchange/registry.py", "networks/registry.py",
    "views/content.py", "views/dither.py", "views/identity.py", "views/linear.py", "views/registry.py",
)  # fmt: skip
_TITLES = {
    "networks": "networks",
    "methods": "methods",
    "baselines": "baselines: budget and settings (--set)",
    "forms": "authorized forms",
    "countermeasures": "countermeasures",
    "distillation": "distillation",
    "exchange": "exchange forms",
}


def registries_sha256() -> str:
    """The hash of the files in which things are registered, by which a catalogue of others is known."""
    package = CATALOGUE.parents[2]
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in _REGISTRIES)).hexdigest()


def _kinds() -> dict[str, dict[str, str]]:
    """Of each kind what there is, by name: as the catalogue says, or from the registries where they are others."""
    if own := os.environ.get(OWN_FORMS):
        from ugejax.app.cli.catalogue import gather
        from ugejax.app.cli.own import form_names

        form_names(own, OWN_FORMS)
        return gather()
    catalogue = json.loads(CATALOGUE.read_text("utf-8"))
    if catalogue["registries_sha256"] == registries_sha256():
        return catalogue["kinds"]
    from ugejax.app.cli.catalogue import gather

    return gather()


def run(arguments: argparse.Namespace) -> int:
    """Print the registries, or one of them."""
    kinds = _kinds()
    if arguments.kind is not None:
        kind = arguments.kind.lower().replace("-", "").replace("_", "")
        if kind not in kinds:
            raise UserError(f"{arguments.kind}: nothing of that kind; choose one of {', '.join(kinds)}")
        kinds = {kind: kinds[kind]}
    if arguments.json:
        print(json.dumps(kinds, indent=2, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140)
    for kind, rows in kinds.items():
        table = Table(title=_TITLES[kind], title_justify="left", show_header=False)
        for name, text in rows.items():
            table.add_row(name, text)
        console.print(table)
    return 0
