"""Change the pure core in one place at a time, and count how many of the changes its tests notice.

Command:
    python -m experiments.mutants --out experiments/results/mutants.json [--number 64] [--seed 0]

Time: some five minutes for the tests without any change, then half a minute a mutant on two CPU cores.

Expect: nearly all are killed. A mutant that lives is listed with its line: either no test would notice such a fault, or
the change makes none (a comparison of floats that are never equal, a tolerance a little wider).
"""

import argparse
import ast
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A module of the core, and the tests that have to notice.
TESTED = {
    "ugejax/losses/_cosine.py": ("test_losses_gradient_matching", "test_losses_feature_distance"),
    "ugejax/losses/gradient_matching.py": ("test_losses_gradient_matching",),
    "ugejax/losses/feature_distance.py": ("test_losses_feature_distance",),
    "ugejax/losses/undistillation.py": ("test_losses_undistillation",),
    "ugejax/constraints/budget.py": ("test_budget",),
    "ugejax/constraints/feasible.py": ("test_budget", "test_authorized", "test_protect"),
    "ugejax/constraints/rounding.py": ("test_rounding",),
    "ugejax/views/dither.py": ("test_authorized",),
    "ugejax/views/linear.py": ("test_authorized",),
    "ugejax/views/content.py": ("test_authorized",),
    "ugejax/views/shared.py": ("test_shared_keys", "test_release_salt"),
}
SECONDS = 300  # a mutant whose tests take longer counts as killed: a loop that does not end
_OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
              ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}  # fmt: skip
_COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
                ast.NotEq: ast.Eq}  # fmt: skip
_NAMES = {"minimum": "maximum", "maximum": "minimum", "floor": "ceil", "ceil": "floor", "min": "max", "max": "min",
          "sum": "mean", "mean": "sum", "argmax": "argmin", "zeros": "ones", "ones": "zeros"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: the module, its line, what stood there, what stands there now, and the module's whole new text."""

    module: str
    line: int
    before: str
    after: str
    text: str


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """Every single change of a module's operators, comparisons, numbers and a few of its functions' names."""
    places = sum(_changes(node) is not None for node in ast.walk(ast.parse(source)))
    for place in range(places):
        tree = ast.parse(source)
        node = [node for node in ast.walk(tree) if _changes(node) is not None][place]
        before, line = ast.unparse(node), getattr(node, "lineno", 0)
        _change(node)
        yield Mutant(module, line, before, ast.unparse(node), ast.unparse(tree))


def _changes(node: ast.AST) -> object:
    """What a node would be changed into; None where it is left alone."""
    if isinstance(node, ast.BinOp):
        return _OPERATORS.get(type(node.op))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _COMPARISONS.get(type(node.ops[0]))
    if isinstance(node, ast.Attribute):
        return _NAMES.get(node.attr)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value + 1
    return None


def _change(node: ast.AST) -> None:
    new = _changes(node)
    if isinstance(node, ast.BinOp):
        node.op = new()  # type: ignore[operator]
    elif isinstance(node, ast.Compare):
        node.ops = [new()]  # type: ignore[operator]
    elif isinstance(node, ast.Attribute):
        node.attr = new  # type: ignore[assignment]
    elif isinstance(node, ast.Constant):
        node.value = new  # type: ignore[assignment]


def is_killed(mutant: Mutant | None, tests: tuple[str, ...]) -> bool:
    """Whether a test fails on the project with this change; in a process of its own, of a copy of the project."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "project"
        copy.mkdir()
        for part in ("ugejax", "tests", "pyproject.toml"):
            origin = ROOT / part
            (shutil.copytree if origin.is_dir() else shutil.copy)(origin, copy / part)
        (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        if mutant is not None:
            (copy / mutant.module).write_text(mutant.text)
        child = os.fork()
        if child == 0:  # jax is imported already, which takes longer than most of the tests
            _run_tests(copy, tests)
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status != 0
            time.sleep(0.1)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return True


def _run_tests(copy: Path, tests: tuple[str, ...]) -> None:
    import pytest

    os.chdir(copy)
    sys.path[:0] = [str(copy)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{name}.py" for name in tests)])
    os._exit(int(code))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    parser.add_argument("--number", type=int, default=64, help="how many mutants, the same share of each module")
    parser.add_argument("--seed", type=int, default=0, help="of which they are")
    arguments = parser.parse_args()
    for name in ("jax", "flax", "optax", "orbax.checkpoint", "hypothesis", "scipy.stats", "sklearn.linear_model"):
        __import__(name)  # nothing of the project: each process imports that from its own copy
    draw, chosen = random.Random(arguments.seed), []
    for module in TESTED:
        found = list(mutants_of(module, (ROOT / module).read_text()))
        chosen += draw.sample(found, min(len(found), -(-arguments.number // len(TESTED))))
    for tests in dict.fromkeys(TESTED.values()):
        if is_killed(None, tests):
            raise SystemExit(f"{', '.join(tests)}: fail without any change")
    rows = []
    for number, mutant in enumerate(chosen[: arguments.number], 1):
        killed = is_killed(mutant, TESTED[mutant.module])
        rows.append({"module": mutant.module, "line": mutant.line, "before": mutant.before, "after": mutant.after,
                     "killed": killed})  # fmt: skip
        arguments.out.write_text(json.dumps({"killed": sum(row["killed"] for row in rows), "of": len(rows),
                                             "mutants": rows}, indent=1) + "\n")  # fmt: skip
        print(f"{number}/{arguments.number} {'killed' if killed else 'LIVES '} {mutant.module}:{mutant.line} "
              f"{mutant.before} -> {mutant.after}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
