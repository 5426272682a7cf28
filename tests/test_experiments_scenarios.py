"""What the experiments on generators, several keys and distillation compose themselves is what they say it is."""

import argparse
import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
from evaluation_examples import make_evaluation, toy

from experiments import distillation, generator, several_keys
from experiments.composed import Job, load_job
from ugejax.app.keys import build_authorized
from ugejax.data import sources
from ugejax.data.tfds_source import open_tfds
from ugejax.evaluation.trial import Score, Trial
from ugejax.perturbations.start import class_stripes


@pytest.fixture
def job() -> Job:
    evaluation = make_evaluation()
    assert evaluation.key is not None and evaluation.network is not None
    return Job(evaluation.originals, evaluation.test, evaluation.key, evaluation.network, 1)


@pytest.fixture
def dithered(job) -> Job:
    key = dataclasses.replace(job.key, form="keyed-dither", step=24)
    return dataclasses.replace(job, key=key, network=build_authorized(key).of_release(bytes(16)))


def test_unseen_images_are_others(shared_data, monkeypatch):
    monkeypatch.setattr(sources, "open_tfds", functools.cache(open_tfds))  # the same set three times
    arguments = argparse.Namespace(data_dir=str(shared_data / "tfds"), scale="smoke")
    job = load_job(arguments, form="plain")
    unseen = generator.unseen_images(arguments.data_dir, job)
    sets = [{image.tobytes() for image in data.images} for data in (job.train, unseen)]
    assert [len(one) for one in sets] == [60, 60]
    assert not sets[0] & sets[1]
    np.testing.assert_array_equal(np.bincount(unseen.labels), np.bincount(job.train.labels))


def test_two_releases_of_the_same_originals():
    labels = np.arange(40, dtype=np.int32) % 4
    originals = np.random.default_rng(0).integers(40, 200, (40, 16, 16, 3)).astype(np.uint8)
    first, second = (
        np.rint(255 * np.asarray(class_stripes(bytes([k]), 4, (16, 16, 3), amplitude=6 / 255, period=8)))[labels]
        for k in (0, 1)
    )
    releases = [(originals + texture).astype(np.uint8) for texture in (first, second)]
    middle = several_keys.average(*releases)
    np.testing.assert_array_equal(middle.astype(int) - originals, (first + second) / 2)
    # Where the textures differ the first is told and taken away; where they are alike nothing is known.
    subtracted = several_keys.subtract_difference(*releases, labels, amount=6.0)
    np.testing.assert_array_equal(subtracted.astype(int) - originals, np.where(first == second, first, 0))
    assert several_keys.texture_left(releases[0], originals, labels) == 6
    left = several_keys.texture_left(subtracted, originals, labels)
    assert left == pytest.approx(6 * (first[:4] == second[:4]).mean())


def test_the_keys_of_a_release_are_unlike(dithered):
    keys = [one.key for one in several_keys.jobs_of(dithered, 2)]
    assert keys[0].secret != keys[1].secret
    assert {key.step for key in keys} == {24}


COMMANDS = {
    "generator": ["--perturbation-epochs", "0"],
    "several_keys": ["--keys", "1,2"],
    "distillation": ["--variants", "keyed-dither"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_whole_experiment_runs(name, dithered, monkeypatch, tmp_path, capsys):
    """On toy images, without training: its table has no hole and its figures are in its JSON."""
    module = {"generator": generator, "several_keys": several_keys, "distillation": distillation}[name]
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "load_job", lambda arguments, form: dithered)
    monkeypatch.setattr(generator, "unseen_images", lambda data_dir, job: toy(60, 2))
    monkeypatch.setattr(Trial, "run", lambda *_: (Score([0.25, 0.5], 1.0), dithered.network.variables))
    if name == "generator":
        monkeypatch.setattr(generator, "TIMED", 60)
    command = [name, "--data-dir", "", "--out", str(tmp_path / "out"), "--hackers", "mlp-other-init"]
    monkeypatch.setattr(sys, "argv", [*command, "--countermeasures", "none", *COMMANDS[name]])
    assert module.main() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) > 6 and all("| |" not in line for line in lines)
    (summary,) = (tmp_path / "out").rglob("summary.json")
    assert json.loads(summary.read_text())["rows"]
    if name == "several_keys":
        assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_every_teacher_is_asked_everything(job, monkeypatch, tmp_path):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path))
    released = make_evaluation().released
    students = []

    def run(trial, report, snapshots):
        if trial.module != job.network.module:
            students.append(trial)
        return Score([0.5], 1.0), job.network.variables

    monkeypatch.setattr(Trial, "run", run)
    rows = list(distillation.matrix(job, released, ["cnn-nonorm"]))
    cells = {(row["teacher"], row["queries"], row["answers"]) for row in rows}
    assert len(rows) == len(cells) == 2 * 4 * 2
    queried = {row["queries"] for row in rows}
    assert queried == {"originals", "released", "own", "noise"}
    for student in students:
        taught = {image.tobytes() for image in student.images}
        assert not taught & {image.tobytes() for image in student.test_images}
        assert student.labels.ndim == 2 or student.labels.dtype == np.int32
    assert len(students) == 8  # both teachers answer alike here, so the cache knows the second one's students
