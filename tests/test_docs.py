"""The documentation says what is there: its commands parse, its links lead somewhere, its tutorial runs."""

import logging
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

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
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# What keeps the tutorial's commands within seconds; an attack finds in the cache what the evaluation trained.
SMALLER = {
    "protect": ["--n-train", "60", "--n-test", "20", "--network", "mlp"],
    "evaluate": ["--epochs", "1", "--hackers", "mlp"],
    "attack": ["--epochs", "1", "--countermeasures", "none"],
    "train": ["--epochs", "1"],
}


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `$ ugejax` in a page."""
    text = re.sub(r"\$[A-Z_]+", "1", page.read_text().replace("\\\n", " "))  # the variables of a shell
    return [shlex.split(line, comments=True) for line in re.findall(r"^\$ (?:\w+=\S+ )*ugejax (.*)$", text, re.M)]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page):
    for command in commands(page):
        build_parser().parse_args(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).is_file(), target


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
    countermeasure, baseline, network, loss, *_ = blocks("researcher.md")
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


def test_federated_clients_learn_from_the_release_what_they_learn_from_originals(capsys):
    (block,) = blocks("federated.md")
    namespace: dict = {}
    exec(block.replace("rounds=8", "rounds=2"), namespace)
    released, originals = capsys.readouterr().out.split()
    assert released == originals
    assert (namespace["released"] != namespace["train"].images).any(axis=(1, 2, 3)).all()  # of every client


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_experiment_that_a_page_names_is_there(page):
    for name in re.findall(r"experiments[./](\w+)\b(?!\*)", page.read_text()):
        path = ROOT / "experiments" / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
