"""Every experiment explains itself: its docstring gives command, time and figures to expect, and it parses."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPERIMENTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text() and "serve(" not in path.read_text()  # sides of the benchmark
]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_explains_itself(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    told = capsys.readouterr().out
    for word in ("Command:", "Time:", "Expect"):
        assert word in told
