"""The public surface: what the package exports, what the reference lists, and what the documentation imports."""

import ast
import contextlib
import inspect
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from process_examples import begin

import ugejax

ROOT = Path(ugejax.__file__).parent.parent
NAMES = sorted(set(ugejax.__all__))
NAMESPACES = [name for name in NAMES if inspect.ismodule(getattr(ugejax, name))]


def sources() -> dict[str, str]:
    """Python that users read: blocks of the pages, cells of the notebook, examples; by where it is.

    A block that says what goes into files of the package itself is not among them.
    """
    found = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)):
            if not block.startswith("# ugejax/"):
                found[f"{page.name} {number}"] = block
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    found["notebook"] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return found | {path.name: path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))}


def test_the_reference_lists_exactly_what_is_public():
    listed = re.findall(r"^::: ugejax\.(\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == NAMES
    assert 40 <= len(NAMES) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name):
    thing = getattr(ugejax, name)
    doc = inspect.getdoc(thing)
    assert doc and re.match(r"[A-Z`(].*[.:)?]", doc), doc
    if inspect.isfunction(thing):
        parameters = [parameter for parameter in inspect.signature(thing).parameters if parameter != "args"]
        assert not [parameter for parameter in parameters if not re.search(rf"\b{parameter}\b", doc)]


@pytest.mark.parametrize("where", sources())
def test_documentation_imports_nothing_else(where):
    for node in ast.walk(ast.parse(sources()[where])):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("ugejax.")]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ugejax":
            names = [alias.name for alias in node.names]
            package, _, namespace = (node.module or "").partition(".")
            assert not namespace or namespace in NAMESPACES, node.module
            home = getattr(ugejax, namespace) if namespace else ugejax
            public = getattr(home, "__all__", dir(home))
            assert set(names) <= set(public), (where, names)


def test_the_package_itself_is_light():
    """Importing it imports neither jax nor NumPy; a name brings what it needs."""
    code = "import sys, ugejax; assert not {'jax', 'numpy', 'flax'} & set(sys.modules); ugejax.Method; print('light')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "light\n", done.stderr


def run_file(path: Path) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(str(path), run_name="__main__")
    return 0


def test_the_example_of_own_parts_runs(tmp_path):
    path = ROOT / "examples" / "own_parts.py"
    assert len(path.read_text().splitlines()) <= 60
    process = begin(run_file, path, said=tmp_path / "said")  # one that has not settled yet how many devices it has
    process.join(timeout=300)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said
    before, after = map(float, re.findall(r"\d\.\d+e-\d+", said))
    assert after < before and "agree" in said
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} == {"dataclasses", "flax", "jax", "numpy", "ugejax"}


def test_the_method_in_one_file_runs(monkeypatch, capsys):
    """At the smoke scale, of which the partner's figure is worked: he sees the same of release and originals."""
    arguments = ["--source", "digits", "--eps", "128/255", "--n-train", "120", "--n-test", "60", "--epochs", "1"]
    path = str(ROOT / "examples" / "uge_cifar10.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    runpy.run_path(path, run_name="__main__")
    found = dict(line.rsplit(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == [f"{who} on {what}" for who in ("partner", "stranger") for what in ("originals", "release")]
    assert found["partner on originals"] == found["partner on release"]
