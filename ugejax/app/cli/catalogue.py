"""What can be named on the command line, gathered from the registries and kept in `catalogue.json` beside this file.

`ugejax list` reads the file, since importing the registries takes several seconds, unless a registry was changed since:
then it gathers, until the file is written anew by

    python -m ugejax.app.cli.catalogue
"""

import inspect
import json
from fractions import Fraction
from pathlib import Path

from ugejax.app.cli.list import CATALOGUE, registries_sha256
from ugejax.app.exchange import EXCHANGE_FORMS
from ugejax.baselines import BASELINES, BaselineMethod, assignments_of
from ugejax.countermeasures import COUNTERMEASURES
from ugejax.evaluation import DISTILLATIONS
from ugejax.networks import NETWORKS
from ugejax.views import FORMS


def gather() -> dict[str, dict[str, str]]:
    """Of each kind what there is, by name, with a line about it."""
    methods = {"uge": "UnGeneralizable Examples: learnable for the holder of the key"}
    return {
        "networks": {name: (inspect.getdoc(one.build) or "").split("\n")[0] for name, one in NETWORKS.items()},
        "methods": methods | {name: method.summary for name, method in BASELINES.items()},
        "baselines": {name: _settings(method) for name, method in BASELINES.items()},
        "forms": {name: form.summary for name, form in FORMS.items()},
        "countermeasures": {name: one.summary for name, one in COUNTERMEASURES.items()},
        "distillation": {name: one.summary for name, one in DISTILLATIONS.items()},
        "exchange": {name: form.summary for name, form in EXCHANGE_FORMS.items()},
    }


def _settings(method: BaselineMethod) -> str:
    """A baseline's budget, and what --set may change of it with the defaults."""
    if method.eps is None:
        budget = "no budget"
    elif method.norm == "linf":
        budget = f"linf {Fraction(method.eps).limit_denominator(255)}"
    else:
        budget = f"l2 {method.eps:.3g}, for 32x32x3 images"
    return "; ".join([budget, *assignments_of(method.settings)])


def write(path: Path) -> None:
    """Write what was gathered to a file."""
    content = {"registries_sha256": registries_sha256(), "kinds": gather()}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(CATALOGUE)
