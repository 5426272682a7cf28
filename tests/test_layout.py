"""How the package is laid out: the core knows nothing of the program around it, and its parts do not go in circles."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ugejax"
# What brings core and program together: the public names and `python -m ugejax`.
ABOVE = ("app", "__init__", "__main__")


def imported(tree: ast.AST) -> set[str]:
    """What of the package a module imports, as `networks.registry`, wherever in it; a name counts as a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("ugejax.") for name in found if name.startswith("ugejax.")}


def core() -> dict[str, set[str]]:
    """For each module of the core, as a path within the package, what it imports of the package."""
    paths = {path.relative_to(PACKAGE): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        str(place): imported(ast.parse(path.read_text()))
        for place, path in paths.items()
        if place.parts[0].removesuffix(".py") not in ABOVE
    }


def parts(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each top-level part, as `networks` or `compiler`, those that it imports from."""
    graph: dict[str, set[str]] = {}
    for place, names in modules.items():
        own = Path(place).parts[0].removesuffix(".py")
        graph.setdefault(own, set()).update({name.split(".")[0] for name in names} - {own})
    return graph


def test_no_module_of_the_core_imports_the_program_around_it():
    modules = core()
    assert {"uge.py", "losses/gradient_matching.py", "views/dither.py"} <= set(modules)
    assert [place for place, names in modules.items() if any(name.split(".")[0] == "app" for name in names)] == []


def test_no_part_of_the_core_imports_itself_by_way_of_another():
    list(graphlib.TopologicalSorter(parts(core())).static_order())


@pytest.mark.parametrize(
    "text",
    [
        "import ugejax.app.cli", "from ugejax import app", "from ugejax.app import files",
        "def late():\n    from ugejax.app.files import published",
    ],
)  # fmt: skip
def test_imports_of_the_program_are_noticed(text):
    assert any(name.split(".")[0] == "app" for name in imported(ast.parse(text)))


def test_a_circle_is_noticed():
    modules = {"views/view.py": {"data.stream"}, "data/stream.py": {"errors.UserError"}, "errors.py": {"views.View"}}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(parts(modules)).static_order())
