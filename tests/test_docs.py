"""The documentation says what is there: its commands parse, its links lead somewhere, its tutorial runs."""

import itertools
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from process_examples import begin

from ugejax.app.cli import main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.release.secrets import forms_of_secret
from ugejax.baselines import BASELINES
from ugejax.countermeasures.registry import COUNTERMEASURES
from ugejax.networks import NETWORKS
from ugejax.networks.registry import variable_shapes
from ugejax.training import default_recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Pages of the site that somebody reads from top to bottom, and those that are looked up.
REFERENCE = {"api.md", "glossary.md"}
READ = sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in REFERENCE)
# What keeps the tutorial's commands within seconds; an attack finds in the cache what the evaluation trained.
SMALLER = {
    "protect": ["--n-train", "60", "--n-test", "20", "--network", "mlp"],
    "evaluate": ["--epochs", "1", "--hackers", "mlp"],
    "attack": ["--epochs", "1", "--countermeasures", "none"],
    "train": ["--epochs", "1"],
}


def name_of(page: Path) -> str:
    """By which a page is known among the tests: its path in the project."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `$ ugejax` in a page."""
    text = re.sub(r"\$[A-Z_]+", "1", page.read_text().replace("\\\n", " "))  # the variables of a shell
    return [shlex.split(line, comments=True) for line in re.findall(r"^\$ (?:\w+=\S+ )*ugejax (.*)$", text, re.M)]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_parses(page):
    for command in commands(page):
        build_parser().parse_args(command)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_one_on_the_site_too(page):
    """Code that is indented within a list, and a list or table without a blank line before it, is text there."""
    assert not re.search(r"^ +```", page.read_text(), re.MULTILINE)
    block = re.compile(r"(- |\d\. |\|)")
    for before, line in itertools.pairwise(prose(page).splitlines()):
        goes_on = not before or before.startswith((" ", "<!--")) or block.match(before)
        assert goes_on or not block.match(line), line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        if name == "command-reference.md":  # made by docs/hooks.py
            continue
        if not name.startswith("http"):
            path = page.parent / name if name else page
            assert path.is_file(), target
            assert not anchor or anchor in anchors(path), target


def anchors(page: Path) -> set[str]:
    """By which links reach a page's headings: lower case, words joined by hyphens, no other signs."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_a_page_says_what_it_is_for_and_what_comes_next_in_900_words(page):
    title, first, *_, last = page.read_text().strip().split("\n\n")
    assert re.fullmatch(r"# .+", title)
    assert re.match(r"[A-Z].+", first) and not first.startswith(("#", "|", "`"))
    assert last.startswith("Next: ") and re.search(r"\]\([^)]+\)", last)
    words = [word for word in prose(page).split() if re.search(r"\w", word)]
    assert len(words) <= 900


def test_the_build_notes_are_short():
    assert len((ROOT / "BUILD_NOTES.md").read_text().split()) <= 3000


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    made = {"index.md", "lab-book.md", "security.md", "contributing.md", "changelog.md", "command-reference.md"}
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(pages | made)


def test_replaced_terms_are_not_used():
    """The left column of the table of words."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    table = contributing.partition("| not | but |")[2].partition("\n\n")[0]
    terms = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", table, re.MULTILINE)
    assert 40 <= len(terms) == len(set(terms))
    for page in [page for page in PAGES if page.name != "CHANGELOG.md"]:
        text = " ".join(prose(page).replace(table, "").lower().split())
        assert not [term for term in terms if re.search(rf"\b{re.escape(term)}\b", text)], page.name


def test_the_tutorial_runs_and_shows_nothing_of_the_key(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.DEBUG)
    ran = commands(ROOT / "docs" / "tutorial.md")
    assert [command[0] for command in ran] == ["protect", "verify", "evaluate", "list", "attack", "report", "train"]
    for command in ran:
        assert main([*command, *SMALLER.get(command[0], [])]) == 0, capfd.readouterr().err
    for name in ("release/data.npz", "evaluation/images.png", "evaluation/accuracy.png", "partner/results.json"):
        assert Path(name).is_file()
    (block,) = blocks("tutorial.md")
    exec(block, {})

    assert main(["export-key", "key", "--out", "view"]) == 0
    assert main(["verify", "release", "--key", "key", "--originals", "no.npz"]) == 2  # nor does a complaint
    key, (out, error) = read_key(Path("key")), capfd.readouterr()
    view = build_authorized(key, Path("key")).view  # for no release
    public = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    public = {path: content for path, content in public.items() if path.parts[0] not in ("key", "view")}
    told = "".join([out, error, caplog.text, repr(key), repr(view)]).encode()
    training = np.asarray(jax.random.key_data(key.prng("training")))
    for secret in (key.secret, np.asarray(view.secret).tobytes(), training.tobytes()):
        assert all(form not in content for form in forms_of_secret(secret) for content in (told, *public.values()))


def test_what_a_researcher_adds_works(monkeypatch):
    for registry, name in ((COUNTERMEASURES, "invert"), (BASELINES, "grey-shift"), (NETWORKS, "strided")):
        monkeypatch.setitem(registry, name, None)  # so that what the page adds is taken out again
    countermeasure, baseline, network = blocks("own-parts.md")
    loss, term = blocks("own-losses.md")
    exec(countermeasure, namespace := {})
    np.testing.assert_allclose(namespace["invert"](np.array([[[[255]]]], np.uint8)), 0)
    assert COUNTERMEASURES["invert"].prepare is namespace["prepare"]
    exec(baseline, {})
    images = np.full((6, 4, 4, 1), 100, np.uint8)
    released = BASELINES["grey-shift"].protect(jax.random.key(0), images, np.arange(6) % 2, 2)
    assert set(np.unique(released)) <= {92, 108}
    exec(network, {})
    head = variable_shapes("strided", 3, (8, 8, 1))["params"]["head"]
    assert head["kernel"].shape == (32, 3) and default_recipe("strided") == default_recipe("cnn")
    exec(loss, namespace := {})  # asserts itself that the loss falls within the feasible set
    ramp = np.arange(4.0)[:, None, None] + np.zeros((1, 4, 4, 1))
    np.testing.assert_allclose(namespace["roughness"](ramp), [1])
    exec(term, namespace := {})
    context = SimpleNamespace(x=np.zeros((1, 4, 4, 1)))
    np.testing.assert_allclose(namespace["TERM"].loss(context)(ramp), [1])


def run(block: str) -> int:
    exec(block, {})
    return 0


def test_functions_of_arrays_run_under_jit_vmap_and_pmap_and_on_a_mesh(tmp_path):
    (_, tour), (mesh,) = blocks("researcher.md"), blocks("clusters.md")
    flags = "--xla_force_host_platform_device_count=4 --xla_cpu_parallel_codegen_split_count=1"
    process = begin(run, tour + mesh, said=tmp_path / "said", XLA_FLAGS=flags)
    process.join(timeout=300)
    assert process.exitcode == 0, (tmp_path / "said").read_text()


def test_a_method_a_countermeasure_and_a_network_are_added_by_one_file_and_one_line_each(tmp_path):
    block, _ = blocks("researcher.md")
    parts = re.split(r"^# (ugejax/\w+)/(\w+)\.py; in registry\.py: (.+)\n", block, flags=re.MULTILINE)[1:]
    assert len(parts) == 3 * 4
    shutil.copytree(ROOT / "ugejax", tmp_path / "ugejax")
    for folder, module, line, code in zip(*(parts[start::4] for start in range(4)), strict=True):
        (tmp_path / folder / f"{module}.py").write_text(code)
        with (tmp_path / folder / "registry.py").open("a") as registry:
            registry.write(f"from {folder.replace('/', '.')}.{module} import *\n{line}\n")
    command = "arena digits --n-train 60 --n-test 30 --epochs 1 --methods shade --networks logistic"
    done = subprocess.run(
        [sys.executable, "-m", "ugejax", *command.split(), "--countermeasures", "negative", "--out", "arena"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path), "UGEJAX_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "arena" / "results.json").read_text())["rows"]
    assert [row[name] for name in ("method", "network", "countermeasure")] == ["shade", "logistic", "negative"]


def test_federated_clients_learn_from_the_release_what_they_learn_from_originals(capsys):
    (block,) = blocks("federated.md")
    namespace: dict = {}
    exec(block.replace("rounds=8", "rounds=2"), namespace)
    released, originals = capsys.readouterr().out.split()
    assert released == originals
    assert (namespace["released"] != namespace["train"].images).any(axis=(1, 2, 3)).all()  # of every client


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_experiment_that_a_page_names_is_there(page):
    for name in re.findall(r"experiments[./](\w+)\b(?!\*)", page.read_text()):
        path = ROOT / "experiments" / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
