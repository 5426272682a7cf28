"""Mistakes: the library names its arguments, the command line their flags, and neither speaks the other's language."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ugejax
from ugejax.app.cli import in_flags
from ugejax.app.cli.arguments import build_parser, flags
from ugejax.errors import UserError

ROOT = Path(ugejax.__file__).parent


def library() -> Iterator[tuple[str, ast.Module]]:
    """The modules outside of the command line, by their path."""
    for file in sorted(ROOT.rglob("*.py")):
        path = file.relative_to(ROOT).as_posix()
        if not path.startswith("app/cli/"):
            yield path, ast.parse(file.read_text())


def texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_a_mistake_names_the_argument_in_the_terms_of_the_library():
    error = UserError("has a passphrase", argument="key", value=Path("K"))
    assert isinstance(error, ValueError) and error.argument == "key"
    assert str(error) == "`key` K: has a passphrase"
    assert str(UserError("names none", argument="hackers")) == "`hackers`: names none"
    assert str(UserError("K: damaged")) == "K: damaged" and UserError("K: damaged").argument is None
    again = pickle.loads(pickle.dumps(error))  # as a pool of processes passes it on
    assert (str(again), again.argument) == (str(error), "key")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`key` K: has a passphrase", "--key K: has a passphrase"),
        ("or give `reuse_key`", "or give --reuse-key"),
        ("`kind`: unknown 'npzz'", "KIND: unknown 'npzz'"),
        ("`settings` em.rounds: '0' is not", "--set em.rounds: '0' is not"),
        ("a job: `public_keys`: names none", "a job: --to: names none"),
        ("`none` stands for no transform; see `ugejax list`", "`none` stands for no transform; see `ugejax list`"),
    ],
)
def test_the_command_line_puts_its_flags_there(message, shown):
    assert in_flags(message) == shown


def test_no_text_of_the_library_speaks_of_a_flag():
    known = {flag for flag in flags(build_parser()).values() if flag.startswith("--")}
    assert {"--key", "--image-size", "--set"} <= known
    found = {}
    for path, tree in library():
        found[path] = known.intersection(re.findall(r"--[\w-]+", "\n".join(texts(tree))))
    assert not any(found.values()), found


def test_every_argument_that_a_message_names_has_a_flag():
    named = set()
    for _, tree in library():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = [keyword.value for keyword in call.keywords if keyword.arg == "argument"]
            named |= {value.value for value in given if isinstance(value, ast.Constant) and value.value is not None}
    assert {"key", "out", "countermeasures"} <= named
    for name in named:
        assert in_flags(f"`{name}`").startswith("--"), name
