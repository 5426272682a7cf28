"""Every experiment explains itself, by command, time and figures to expect, and calls the library, not commands."""

import ast
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


# Those that test the commands themselves.
COMMANDS = {
    f"experiments.{name}"
    for name in ("accelerator.full_size", "bench.commands", "growth", "kills", "paths", "photographs")
}


def takes_commands(tree: ast.Module) -> bool:
    """Whether a module imports the command line, or has a list that begins a command of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            if any(f"{module}.{alias.name}".strip(".").startswith("ugejax.app.cli") for alias in node.names):
                return True
        if isinstance(node, ast.List) and any(getattr(item, "value", None) == "ugejax" for item in node.elts):
            return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        "import ugejax.app.cli", "from ugejax.app import cli", "from ugejax.app.cli import main as ugejax",
        "def f():\n    from ugejax.app.cli.originals import load_test", 'run([executable, "-m", "ugejax", "list"])',
    ],
)  # fmt: skip
def test_commands_are_noticed(text):
    assert takes_commands(ast.parse(text))
    assert not takes_commands(ast.parse("import ugejax\nfrom ugejax.evaluation import evaluate"))


def test_no_experiment_takes_commands_but_those_that_test_them_and_say_so():
    trees = {path: ast.parse(path.read_text()) for path in (ROOT / "experiments").rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in trees.items()}
    assert {name for name, tree in names.items() if takes_commands(tree)} == COMMANDS
    assert all("tests the commands themselves" in (ast.get_docstring(names[name]) or "") for name in COMMANDS)
