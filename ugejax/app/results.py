"""The file `results.json` of an evaluation, a training or a verification."""

import json
from pathlib import Path
from typing import Any

from ugejax.app.files import replace_text


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results.json` whole or not at all."""
    replace_text(path, json.dumps(results, indent=2) + "\n")
