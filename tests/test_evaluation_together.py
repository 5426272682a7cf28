"""Trials that train together: which do, that each scores as it does alone, and what an evaluation makes of it."""

import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_examples import make_evaluation, make_trial, toy
from flax import linen as nn
from process_examples import begin, with_devices

from ugejax.app.cache import FolderCache
from ugejax.countermeasures.adversarial import pgd
from ugejax.errors import UserError
from ugejax.evaluation import evaluate, together
from ugejax.evaluation.ensemble import Ensemble
from ugejax.evaluation.together import groups, run_together, train_ahead, worthwhile
from ugejax.evaluation.trial import Phase, Score, Trial
from ugejax.memory import OutOfMemory
from ugejax.networks import build, initial_variables
from ugejax.training import Recipe, fit, fit_together, initial_state, make_train_step

EVALUATE = importlib.import_module("ugejax.evaluation.evaluate")  # as an attribute of the package it is the function
RECIPE = Recipe(epochs=2, batch_size=5, augment=("crop-flip",), mirror=True)


def different(number: int, **changes) -> list[Trial]:
    """Trials of their own weights, keys and images; every second one shares its images with the one before."""
    sets = [toy(12, seed).images for seed in range(number)]
    return [
        make_trial(
            **{"recipe": RECIPE, "variables": None, "key": jax.random.key(seed), "images": sets[seed // 2]} | changes
        )
        for seed in range(number)
    ]


def assert_close(some, others):
    """Leaf by leaf, up to what Adam's first steps make of rounding."""
    for a, b in zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


class Convolutional(nn.Module):
    """A convolution."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


class BatchNormed(nn.Module):
    """A convolution and batch norm."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(self.num_classes)(nn.relu(x).mean((1, 2)))


def test_each_network_is_trained_as_it_is_alone():
    module, n = BatchNormed(), 12
    optimizer = RECIPE.build_optimizer(n)
    step = make_train_step(module, optimizer, RECIPE)
    images = [toy(n, seed).images for seed in (0, 1, 0)]
    labels = [np.arange(n, dtype=np.int32) % 3, np.arange(n, dtype=np.int32) % 2, np.arange(n, dtype=np.int32) // 4]
    keys = [jax.random.key(seed) for seed in (5, 6, 7)]
    states = [initial_state(initial_variables(module, key, (8, 8, 1)), optimizer) for key in keys]
    epochs = []
    trained = fit_together(
        step, states, images, labels, RECIPE, keys, after_epoch=lambda epoch, now: epochs.append((epoch, len(now)))
    )
    assert epochs == [(1, 3), (2, 3)]
    for state, x, y, key, together_ in zip(states, images, labels, keys, trained, strict=True):
        alone = fit(step, state, jnp.asarray(x), jnp.asarray(y), RECIPE, key)
        assert int(together_.step) == int(alone.step) == 4
        assert_close(together_.variables, alone.variables)


def test_scores_are_those_of_trials_that_run_alone():
    trials = different(3)
    reported = []
    scores = run_together(trials, lambda epoch, epochs, accuracy: reported.append((epoch, epochs, accuracy)))
    alone = [trial.run()[0] for trial in trials]
    assert [score.by_epoch for score in scores] == [score.by_epoch for score in alone]
    assert len({score.seconds for score in scores}) == 1
    means = np.mean([score.by_epoch for score in alone], axis=0)
    assert reported == [(1, 2, pytest.approx(means[0])), (2, 2, pytest.approx(means[1]))]


@pytest.mark.parametrize(
    "changes", [{"trains": "head"}, {"adversary": functools.partial(pgd, eps=0.1, step_size=0.05, steps=2)}]
)
def test_frozen_bodies_and_adversaries_train_together_too(changes):
    trials = different(2, **changes)
    scores, alone = run_together(trials), [trial.run()[0] for trial in trials]
    assert [score.by_epoch for score in scores] == [score.by_epoch for score in alone]


def test_a_group_is_of_one_program():
    trials = different(3)
    other = [
        make_trial(recipe=dataclasses.replace(RECIPE, learning_rate=0.5)), make_trial(module=build("mlp", 4)),
        make_trial(recipe=RECIPE, labels=np.eye(3, dtype=np.float32)[np.arange(12) % 3]),
        make_trial(recipe=RECIPE, adversary=functools.partial(pgd, eps=0.1, step_size=0.1, steps=1)),
    ]  # fmt: skip
    tuned = make_trial(recipe=RECIPE, then=(Phase(trials[0].images, trials[0].labels, "head"),))
    again = dataclasses.replace(trials[0])
    (found,) = groups([other[0], trials[0], other[1], trials[1], again, other[2], tuned, trials[2], other[3]])
    assert [trial.digest for trial in found] == [trial.digest for trial in trials]
    assert groups([trials[0], again, tuned, tuned, *other]) == []


def test_no_group_is_larger_than_the_most(monkeypatch):
    monkeypatch.setattr(together, "MOST", 2)
    assert [len(group) for group in groups(different(5))] == [2, 2]


@pytest.mark.parametrize(
    "full", [OutOfMemory(5, 2), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")], ids=["step", "images"]
)
def test_what_does_not_fit_is_trained_in_halves(full, monkeypatch):
    asked, room = [], 1

    def all_at_once(trials, report):
        asked.append(trials)
        if len(trials) > room:
            raise full
        return [f"score of {trial}" for trial in trials]

    monkeypatch.setattr(together, "_all_at_once", all_at_once)
    assert run_together(["a", "b", "c"]) == ["score of a", "score of b", "score of c"]
    assert asked == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]]
    room = 0
    with pytest.raises(type(full)):
        run_together(["a", "b"])
    full = jax.errors.JaxRuntimeError("INTERNAL: something else")
    asked.clear()
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run_together(["a", "b"])
    assert asked == [["a", "b"]]


def test_a_loss_that_is_not_finite_names_its_network(tmp_path):
    trials = different(2)
    trials[1] = dataclasses.replace(trials[1], images=np.full((12, 8, 8, 1), np.nan, np.float32))
    trials[0] = dataclasses.replace(trials[0], images=np.zeros((12, 8, 8, 1), np.float32))
    with pytest.raises(UserError, match="^a, b together: the training loss of network 2 was nan in step 1 of epoch 1"):
        list(train_ahead(zip("ab", trials, strict=True), FolderCache(tmp_path), lambda *_: None))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def accelerator(monkeypatch):
    """Evaluate as on an accelerator."""
    monkeypatch.setattr(EVALUATE, "worthwhile", lambda: True)


def test_an_evaluation_finds_the_same_together(tmp_path, accelerator, monkeypatch):
    evaluation = make_evaluation(
        hackers=("mlp", "mlp-other-init", "wrong-key"), countermeasures=("none", "blur"), seeds=(0, 1)
    )
    told, alone = [], []
    rows, curves = evaluate(evaluation, FolderCache(tmp_path / "together"), lambda *what: told.append(what))
    monkeypatch.setattr(EVALUATE, "worthwhile", lambda: False)
    others, other_curves = evaluate(evaluation, FolderCache(tmp_path / "alone"), lambda *what: alone.append(what))
    seconds = {"seconds": None}
    assert [row | seconds for row in rows] == [row | seconds for row in others]
    assert curves == other_curves
    # Authorized, wrong key and hackers are mlps of one recipe, on two image sets, for two seeds: 16 networks.
    titles = list(dict.fromkeys(title for _, _, title, *_ in told if title.endswith("together")))
    names = "mlp, mlp, mlp, mlp, mlp-other-init, mlp-other-init, mlp, mlp"
    assert f"{names} together" in titles
    shares = [(done + epoch / epochs) / of for done, of, _, epoch, epochs, _ in told]
    assert max(shares) <= 1.0 == shares[-1]
    by_stage = [max(share for share, what in zip(shares, told, strict=True) if what[2] == title) for title in titles]
    assert by_stage == sorted(by_stage)
    assert sorted(path.name for path in (tmp_path / "together").glob("*.json")) == sorted(
        path.name for path in (tmp_path / "alone").glob("*.json")
    )


def test_what_is_in_the_cache_is_not_trained_together_again(tmp_path, accelerator, monkeypatch):
    evaluation = make_evaluation(hackers=("mlp", "mlp-other-init"), epochs=1)
    first = evaluate(evaluation, FolderCache(tmp_path))
    monkeypatch.setattr(together, "run_together", None)
    assert evaluate(evaluation, FolderCache(tmp_path)) == first


def test_members_of_an_ensemble_are_left_to_it(tmp_path, accelerator, monkeypatch):
    offered = []
    monkeypatch.setattr(EVALUATE, "train_ahead", lambda named, *_: offered.extend(named) or ())
    monkeypatch.setattr(Ensemble, "run_cached", lambda *_: Score([0.5], 1.0))
    evaluate(make_evaluation(key=None, network=None, countermeasures=("random-projections-5",)), FolderCache(tmp_path))
    assert offered == []


def test_a_cpu_trains_one_after_the_other(monkeypatch):
    assert not worthwhile()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert worthwhile()


def on_several_devices() -> int:
    assert jax.device_count() == 3
    trials = different(2, module=Convolutional(), recipe=Recipe(epochs=2, batch_size=5, mirror=True))
    return [score.by_epoch for score in run_together(trials)] != [trial.run()[0].by_epoch for trial in trials]


def test_batches_of_all_are_spread_over_devices(tmp_path):
    process = begin(on_several_devices, said=tmp_path / "said", XLA_FLAGS=with_devices(3))
    process.join(timeout=300)
    assert process.exitcode == 0, (tmp_path / "said").read_text()
