"""Every experiment explains itself: its docstring gives command, time and figures to expect, and it parses."""

import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = sorted(
    path.stem
    for path in (Path(__file__).parent.parent / "experiments").glob("*.py")
    if '__name__ == "__main__"' in path.read_text()
) + ["bench"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_explains_itself(name):
    command = [sys.executable, "-m", f"experiments.{name}", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for word in ("Command:", "Time:", "Expect"):
        assert word in done.stdout
