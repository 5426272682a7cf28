"""An authorized form is one file: nobody else asks which one it is, and one from outside goes all the way."""

import ast
import dataclasses
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from cli_examples import TINY, write_toy
from pytorch_examples import in_place_of_pytorch, seen_by_module

import ugejax.views
from ugejax.app.cli import main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.protection import method_of
from ugejax.app.release import read_release
from ugejax.authorized import new_key, seen
from ugejax.errors import UserError
from ugejax.training import Recipe
from ugejax.uge import Method
from ugejax.views import DEFAULT_FORM, FORMS, Form, IdentityView, View, content_view, default_step, register_form

ROOT = Path(__file__).parent.parent
# The parser of the command line waits for no import, so that it says by itself what the registry says.
EXCEPTIONS = {("ugejax/app/cli/arguments.py", DEFAULT_FORM)}


def view_classes() -> set[str]:
    """The names of all views and their base classes in the package."""
    for module in pkgutil.iter_modules(ugejax.views.__path__):
        importlib.import_module(f"ugejax.views.{module.name}")
    found, todo = set(), [View]
    while todo:
        todo += (more := todo.pop().__subclasses__())
        found |= {one.__name__ for one in more if one.__module__.startswith("ugejax.")}
    return found


def asked_for(source: str, classes: set[str]) -> Iterator[str]:
    """The forms that a module names in its strings, docstrings aside, and the views that it names in its code."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield from (name for name in FORMS if text == name or ("-" in name and name in text))
            case ast.alias(name=name) | ast.Name(id=name) | ast.Attribute(attr=name):
                yield from {name.rpartition(".")[2]} & classes


def test_no_other_module_asks_for_a_form_by_name_or_class():
    classes = view_classes()
    assert classes >= {"DitherView", "DitheredQuantiser", "LinearView", "ContentView", "IdentityView", "ThreefryView"}
    outside = [path for path in (ROOT / "ugejax").rglob("*.py") if "views" not in path.relative_to(ROOT).parts]
    assert len(outside) > 100
    asked = {(str(path.relative_to(ROOT)), name) for path in outside for name in asked_for(path.read_text(), classes)}
    assert asked == EXCEPTIONS
    for found in (
        'x == "plain"',
        "from ugejax.views import DitherView",
        "isinstance(v, views.LinearView)",
        'f"{x} keyed-content"',
    ):
        assert list(asked_for(found, classes)), found


def test_the_command_line_has_the_default_of_the_registry():
    assert build_parser().parse_args(["protect", "digits", "--out", "R"]).authorized == DEFAULT_FORM


def test_the_page_of_the_method_has_the_entry_of_each_form():
    rows = re.findall(
        r"^\| `([\w-]+)`( \(default\))? \| (.*) \| (.*) \|$", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE
    )
    expected = [
        (form.name, " (default)" * (form.name == DEFAULT_FORM), form.secret_part, form.perturbation)
        for form in FORMS.values()
    ]
    assert [row for row in rows if row[0] in FORMS] == expected


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_a_form_says_fits_together(form):
    assert set(form.settings) <= {field.name for field in dataclasses.fields(Method)} and form.trains in ("all", "head")
    step = default_step(form.name, 8 / 255)
    assert (step is None) == (form.default_step is None)
    view = form.view(b"secret", (8, 8, 3), step)
    assert view.blind == form.exact
    export = view.of_release(bytes(16)).export()
    assert (export is None) == (not form.exact)
    images = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    for kept in (view.keeps(images, images), jax.jit(lambda v, x: v.keeps(x, x))(view, images)):
        assert kept.shape == (5,) and kept.dtype == bool and kept.all()
    method = method_of([form.name])
    assert {name: getattr(method, name) for name in form.settings} == dict(form.settings)
    assert form.exact or method.epochs > 0


def test_settings_of_a_form_give_way_to_those_that_are_given():
    assert method_of(["plain"], epochs=3).epochs == 3
    assert method_of(["keyed-content", "plain"]) == Method(period=4, epochs=15)
    assert method_of(["keyed-dither"]) == Method(parametrisation="codes")
    assert method_of(["keyed-dither"], parametrisation="class-wise") == Method()
    with pytest.raises(UserError, match="unknown authorized form 'plane'"):
        method_of(["plane"])
    with pytest.raises(UserError, match="`code_cell` 3: does not divide 4, the side of a pattern"):
        method_of(["keyed-dither"], code_cell=3)
    with pytest.raises(UserError, match=r"`code_share` 1.5: is not in \[0, 1\]"):
        method_of(["keyed-dither"], code_share=1.5)
    with pytest.raises(UserError, match="is not of parametrisation class-wise; leave it out"):
        method_of(["keyed-dither"], parametrisation="class-wise", code_cell=2)


def test_a_strength_is_a_budget_and_what_fills_it():
    assert method_of(["keyed-dither"], "standard") == method_of(["keyed-dither"])
    assert method_of(["keyed-dither"], "strong") == Method(eps=16 / 255, parametrisation="layered")
    given = method_of(["keyed-dither"], "strong", eps=12 / 255, code_share=0.5)
    assert (given.eps, given.parametrisation, given.code_share) == (12 / 255, "layered", 0.5)
    assert method_of(["plain"], "strong").epochs == 15  # what a form sets besides
    with pytest.raises(UserError, match="`strength` weak: must be one of standard, strong"):
        method_of(["keyed-dither"], "weak")
    with pytest.raises(UserError, match="`eps`: has a budget for norm linf alone"):
        method_of(["keyed-dither"], "strong", norm="l2")


def test_steps_of_large_budgets_cost_the_partner_less():
    steps = [default_step("keyed-dither", levels / 255) for levels in (0.5, 1, 4, 8, 10, 12, 16, 100, 200)]
    assert steps == [2, 3, 12, 24, 24, 24, 32, 200, 255]


def test_a_form_that_quantises_needs_a_step():
    key = new_key(
        b"seed 0", form="keyed-dither", network="mlp", image_shape=(8, 8, 3), num_classes=3, step=None,
        recipe=Recipe(epochs=2), from_seed=True,
    )  # fmt: skip
    for version in (1, 2):
        with pytest.raises(UserError, match="has no step"):
            build_authorized(dataclasses.replace(key, version=version))


def test_an_image_that_moves_to_another_subspace_is_not_kept():
    view = content_view(b"secret 2", (16, 8, 3))
    x = np.random.default_rng(0).random((40, 16, 8, 3), np.float32)
    picked = np.asarray(view.select(x))
    np.testing.assert_array_equal(view.keeps(x, x[::-1]), picked == picked[::-1])
    assert 0 < (picked == picked[::-1]).sum() < 40 and view.draws > 1


def test_a_name_that_is_taken_or_no_name_is_refused():
    form = Form("", lambda *_: IdentityView(), exact=False, secret_part="", perturbation="")
    for name, says in (("plain", "of the package has the name"), ("a,b", "of letters, digits"), ("a:b", "of letters")):
        with pytest.raises(ValueError, match=says):
            register_form(dataclasses.replace(form, name=name))
    assert "a,b" not in FORMS and FORMS["plain"].secret_part


@pytest.fixture
def own_form(tmp_path, monkeypatch) -> Iterator[str]:
    """The form of the page on authorized forms in a file of the current folder; its use from Python."""
    page = (ROOT / "docs" / "own-forms.md").read_text()
    form, use = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "hidden-pixels" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(FORMS, "hidden-pixels", None)  # so that it is taken out again
    del FORMS["hidden-pixels"]
    Path("hidden_pixels.py").write_text(form)
    importlib.invalidate_caches()
    yield use
    sys.modules.pop("hidden_pixels", None)


def test_a_form_of_ones_own_is_protected_with_by_functions(own_form, monkeypatch):
    monkeypatch.syspath_prepend(".")
    exec(own_form, {})  # asserts itself that what is moved is hidden


def test_a_form_of_ones_own_goes_through_the_commands(own_form, monkeypatch, capsys):
    write_toy(Path("toy.npz"))
    protect = ["protect", "toy.npz", "--key", "key", "--seed", "0", *TINY, "--out"]
    assert main([*protect, "R", "--authorized", "hidden_pixels:FORM"]) == 0, capsys.readouterr().err
    key, release = read_key(Path("key")), read_release(Path("R"))
    assert key.form == release.card["authorized"]["form"] == "hidden-pixels" and key.step is None
    assert release.card["authorized"]["exact_blind_set"]

    # Whose key it is does not decide what a command imports.
    del FORMS["hidden-pixels"]
    verify = ["verify", "R", "--key", "key", "--originals", "card"]
    assert main(verify) == 2
    assert "unknown authorized form 'hidden-pixels'" in capsys.readouterr().err
    monkeypatch.setenv("UGEJAX_FORMS", "hidden_pixels:FORM")
    assert main(verify) == 0
    assert "differs by at most 0 grey levels" in capsys.readouterr().out
    assert main(["list"]) == 0 and "at secret places" in capsys.readouterr().out
    assert main(["train", "R", "--key", "key", "--out", "T", "--epochs", "1"]) == 0
    assert main(["export-key", "key", "--out", "view.safetensors"]) == 0
    in_place_of_pytorch(monkeypatch)
    view = build_authorized(key, Path("key")).view
    np.testing.assert_allclose(seen_by_module(Path("view.safetensors"), release.images), seen(view, release.images))


MISTAKES = {
    "no module": ("nowhere:FORM", "--authorized nowhere:FORM: ModuleNotFoundError"),
    "no form there": ("hidden_pixels:Nothing", "hidden_pixels has no form Nothing"),
    "something else": ("hidden_pixels:PYTORCH", "hidden_pixels has no form PYTORCH"),
    "a name that is taken": ("taken:FORM", "--authorized taken:FORM: a form of the package has the name 'plain'"),
    "unknown": ("hidden-pixels", "--authorized hidden-pixels: unknown form; choose one of keyed-dither"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_naming_it_gets_one_line(name, own_form, capsys):
    Path("taken.py").write_text("import dataclasses, hidden_pixels\n"
                                "FORM = dataclasses.replace(hidden_pixels.FORM, name='plain')\n")  # fmt: skip
    given, says = MISTAKES[name]
    assert main(["protect", "digits", "--out", "R", "--key", "key", "--authorized", given]) == 2
    error = capsys.readouterr().err
    sys.modules.pop("taken", None)
    assert says in error and error.count("\n") == 1
    assert not Path("key").exists() and not Path("R").exists()
