"""The main job of the experiments is what the commands do: the same release, by library calls."""

import json

import jax
import pytest
from cli_examples import write_toy

from experiments import main_job as module
from experiments.main_job import MainJob, job_parser, main_job, protect, protect_and_evaluate
from experiments.scales import SCALES
from ugejax.app.cli import main
from ugejax.data import Source
from ugejax.evaluation.trial import Score, Trial
from ugejax.networks import initial_variables

SIZES = ["--n-train", "36", "--n-test", "12", "--seed", "3"]


@pytest.fixture
def toy(tmp_path) -> Source:
    return Source(str(write_toy(tmp_path / "toy.npz")), n_train=36, n_test=12)


# For each: the job, and the arguments of the command.
RELEASES = {
    "default": ({}, []),
    "settings": (
        {"network": "mlp", "step": 16, "settings": {"eps": 16 / 255, "period": 8}},
        ["--network", "mlp", "--dither-step", "16", "--eps", "16/255", "--period", "8"],
    ),
    "optimised": (
        {"network": "mlp", "settings": {"parametrisation": "sample-wise", "epochs": 1, "surrogates": ("mlp",)}},
        ["--network", "mlp", "--parametrisation", "sample-wise", "--perturbation-epochs", "1", "--surrogates", "mlp"],
    ),
    "subset": ({"form": "keyed-linear", "subset_seed": 5}, ["--authorized", "keyed-linear", "--subset-seed", "5"]),
    "baseline": ({"baseline": "random-class", "subset_seed": 5}, ["--method", "random-class", "--subset-seed", "5"]),
}


@pytest.mark.parametrize("name", RELEASES)
def test_the_release_is_the_command_s(name, toy, tmp_path, capsys):
    changes, more = RELEASES[name]
    job = MainJob(toy, seed=3, **changes)
    protected = protect(job, tmp_path / "job")
    key = [] if job.baseline else ["--key", str(tmp_path / "key")]
    assert main(["protect", toy.name, "--out", str(tmp_path / "release"), *SIZES, *key, *more]) == 0
    for file in ("data.npz", "manifest.csv"):
        assert (protected.folder / file).read_bytes() == (tmp_path / "release" / file).read_bytes()
    ours, theirs = (json.loads((path / "card.json").read_text()) for path in (protected.folder, tmp_path / "release"))
    assert ours.pop("source") | {"name": ""} == theirs.pop("source") | {"name": ""}  # told from another folder
    assert ours == theirs


def test_rows_are_those_of_evaluate_and_what_is_finished_is_kept(toy, tmp_path, monkeypatch, capsys):
    asked = []

    def run(trial, report=None, snapshots=None):
        asked.append(trial.images.shape)
        variables = trial.variables  # None where they are drawn by training
        if variables is None:
            variables = initial_variables(trial.module, jax.random.key(0), trial.images.shape[1:])
        return Score([0.25, float(trial.images.mean()) / 256], 1.0), variables

    monkeypatch.setattr(Trial, "run", run)
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "ours"))
    job = MainJob(toy, seed=3, network="mlp", hackers=("mlp", "wrong-key"), countermeasures=("none", "grey"))
    results = protect_and_evaluate(job, tmp_path / "job")
    assert json.loads((tmp_path / "job" / "results.json").read_text()) == results

    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "theirs"))
    release, key, out = (str(tmp_path / name) for name in ("release", "key", "out"))
    assert main(["protect", toy.name, "--out", release, *SIZES, "--key", key, "--network", "mlp"]) == 0
    more = ["--hackers", "mlp,wrong-key", "--countermeasures", "none,grey", "--out", out]
    assert main(["evaluate", release, "--key", key, *more]) == 0
    theirs = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["rows"]) == 5  # authorized without countermeasure, two hackers with each
    assert results["rows"] == theirs["rows"] and results["summary"] == theirs["summary"]

    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(module, "write_release", None)
    asked.clear()
    assert protect_and_evaluate(job, tmp_path / "job") == results
    assert not asked
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="holds another release"):
        protect(MainJob(toy, seed=4, network="mlp"), tmp_path / "job")


def test_arguments_describe_the_job(capsys):
    parser = job_parser("of a test")
    base = ["--data-dir", "data", "--out", "out", "--scale", "full"]
    more = ["--hackers", "mlp", "--settings", "period=8", "eps=2/255", "surrogates=mlp,cnn", "transforms=none"]
    job = main_job(parser.parse_args([*base, *more]), countermeasures=("none", "grey"), settings={"eps": 1, "steps": 2})
    settings = {"period": 8, "eps": 2 / 255, "surrogates": ("mlp", "cnn"), "transforms": (), "steps": 2}
    assert SCALES["full"].network == "r18"
    assert job == MainJob(
        Source("cifar10", "data", 50000, 10000), network="r18", hackers=("mlp",), countermeasures=("none", "grey"),
        settings=settings,
    )  # fmt: skip
    # What the user names comes before what the experiment does.
    named = parser.parse_args([*base, "--countermeasures", "blur,none"])
    assert list(main_job(named, countermeasures=("grey",)).countermeasures) == ["blur", "none"]
    assert main_job(parser.parse_args([*base, *more]), baseline="lsp").settings == {}
    for wrong in (["--settings", "perod=8"], ["--settings", "period"], ["--settings", "eps=x"], ["--hackers", "cn"]):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args([*base, *wrong])
        assert wrong[-1].partition("=")[0] in capsys.readouterr().err.splitlines()[-1]
