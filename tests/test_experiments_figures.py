"""The experiments that draw figures run from end to end on real images; their trainings give scores alone."""

import functools
import importlib
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import visual_quality
from ugejax.data import sources
from ugejax.data.tfds_source import open_tfds
from ugejax.evaluation.trial import Score, Trial
from ugejax.networks import initial_variables

# For each experiment: further arguments, the rows that it must have, and its pictures.
EXPERIMENTS = {
    "hackers_by_architecture": (["--hackers", "cnn,mlp"], 3, ["figure.png"]),
    "poison_ratio": ([], 5, ["figure.png"]),
    "visual_quality": (["--methods", "random,random-class"], 2, ["figure.png"]),
    "feature_space": ([], 4, ["figure.png"]),
    "training_curves": (["--methods", "random-class", "--countermeasures", "none,grey"], 2, ["random-class.png"]),
}


opened = functools.cache(open_tfds)  # all take images of one set, whose labels are read for a second


@pytest.fixture(autouse=True)
def _untrained(monkeypatch, tmp_path):
    """Trials end at once, with the weights that they start from."""

    def run(trial, report=None, snapshots=None):
        variables = trial.variables
        if variables is None:
            variables = initial_variables(trial.module, jax.random.key(0), trial.images.shape[1:])
        return Score([0.3, 0.2], 1.0), variables

    monkeypatch.setattr(Trial, "run", run)
    monkeypatch.setattr(sources, "open_tfds", opened)
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_figure_and_its_table(name, shared_data, tmp_path, monkeypatch, capsys):
    more, rows, pictures = EXPERIMENTS[name]
    out = tmp_path / "out"
    command = [name, "--data-dir", str(shared_data / "tfds"), "--out", str(out), "--scale", "smoke", *more]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(visual_quality, "SHOWN", 2)
    assert importlib.import_module(f"experiments.{name}").main() == 0
    assert len(json.loads((out / "summary.json").read_text())["rows"]) == rows
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows
    for picture in pictures:
        with Image.open(out / picture) as image:
            assert min(image.size) > 300


def test_noise_without_colour_of_worked_examples():
    grey, red = np.ones((2, 3, 3, 3), int), np.array([3, 0, 0]) * np.ones((2, 3, 3, 1), int)
    yellow_and_blue = np.array([1, 1, -1]) * np.ones((2, 3, 3, 1), int)
    assert visual_quality.without_colour(grey) == 1
    assert visual_quality.without_colour(red) == pytest.approx(1 / 3)
    assert visual_quality.without_colour(yellow_and_blue) == pytest.approx(1 / 9)
    assert visual_quality.without_colour(0 * grey) == 0
