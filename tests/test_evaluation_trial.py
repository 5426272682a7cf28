"""Trials: what their digest depends on, their phases, their adversary, and where their scores are kept."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest
from evaluation_examples import make_trial, toy

from ugejax.app import checkpoint
from ugejax.app.cache import FolderCache, default_cache
from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.seal import Seal
from ugejax.countermeasures.adversarial import pgd
from ugejax.countermeasures.dp_sgd import clip_and_noise
from ugejax.countermeasures.last_layer import fit_last_layer
from ugejax.evaluation.trial import Phase, Score
from ugejax.networks import build
from ugejax.training import Recipe, outputs


def changed(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] += 1
    return array


def other_adversary(losses_of_x, key, x, *, eps, step_size, steps):
    return x


def test_the_digest_is_that_of_every_input():
    trial = make_trial()
    assert make_trial().digest == trial.digest
    others = [
        make_trial(module=build("cnn", 3)),
        make_trial(module=build("mlp", 4)),
        make_trial(variables=None),
        make_trial(variables=jax.tree.map(lambda leaf: changed(np.asarray(leaf)), trial.variables)),
        make_trial(trains="head"),
        *(
            make_trial(recipe=dataclasses.replace(Recipe(), **change))
            for change in (
                {"optimizer": "sgd"},
                {"learning_rate": 1e-3},
                {"weight_decay": 0.0},
                {"epochs": 16},
                {"batch_size": 16},
                {"augment": ("crop-flip",)},
                {"augment": ("crop-flip", "cutout")},
            )  # fmt: skip
        ),
        *(
            make_trial(**{name: changed(getattr(trial, name))})
            for name in ("images", "labels", "test_images", "test_labels")
        ),
        make_trial(images=trial.images.view(np.int8)),
        make_trial(images=trial.images.reshape(12, 4, 16, 1)),
        make_trial(key=jax.random.key(1)),
        make_trial(labels=np.eye(3, dtype=np.float32)[trial.labels]),
        *(make_trial(adversary=functools.partial(pgd, eps=eps, step_size=0.01, steps=1)) for eps in (0.01, 0.02)),
        make_trial(adversary=functools.partial(other_adversary, eps=0.01, step_size=0.01, steps=1)),
        *(make_trial(aggregate=functools.partial(clip_and_noise, clip=1.0, noise=noise)) for noise in (0.0, 0.1)),
        make_trial(adversary=functools.partial(clip_and_noise, clip=1.0, noise=0.1)),
        *(
            make_trial(then=(Phase(images, labels, trains),))
            for images, labels, trains in (
                (trial.images, trial.labels, "all"),
                (trial.images, trial.labels, "head"),
                (changed(trial.images), trial.labels, "all"),
                (trial.images, changed(trial.labels), "all"),
            )
        ),
        make_trial(then=2 * (Phase(trial.images, trial.labels, "all"),)),
    ]
    digests = [trial.digest, *(other.digest for other in others)]
    assert len(set(digests)) == len(digests)
    # Not that of the function's address, which is another one in every process.
    same = [make_trial(adversary=functools.partial(pgd, eps=0.01, step_size=0.1, steps=1)).digest for _ in range(2)]
    assert same[0] == same[1]


def test_fine_tuning_goes_on_from_the_weights_and_is_scored_too():
    data = toy(12, 0)
    recipe = Recipe(epochs=2, batch_size=6)
    trial = make_trial(recipe=recipe, then=(Phase(data.images, data.labels, "head"),))
    score, variables = trial.run()
    before, trained = make_trial(recipe=recipe).run()
    assert len(score.by_epoch) == trial.epochs == 3
    assert score.by_epoch[:2] == before.by_epoch
    features = outputs(trial.module, trained, data.images, "features")
    expected = fit_last_layer(features, data.labels, 3)
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], expected["kernel"])
    body, head = (
        [
            np.abs(a - b).max()
            for a, b in zip(*(jax.tree.leaves(v["params"][part]) for v in (variables, trained)), strict=True)
        ]
        for part in ("body", "head")
    )
    assert max(body) == 0
    assert min(head) > 0
    reported = []
    dataclasses.replace(trial, then=(Phase(data.images, data.labels, "all"),)).run(
        lambda epoch, epochs, accuracy: reported.append((epoch, epochs))
    )
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_adversary_replaces_the_batches_of_the_first_phase():
    grey = functools.partial(all_grey, level=0.5)
    data = toy(12, 0)
    recipe = Recipe(epochs=1, batch_size=6)
    trial = make_trial(
        recipe=dataclasses.replace(recipe, epochs=20), adversary=grey, then=(Phase(data.images, data.labels, "all"),)
    )
    score, _ = trial.run()
    assert max(score.by_epoch[:20]) < 1.0
    assert score.last == 1.0


def all_grey(losses_of_x, key, x, *, level):
    return 0 * x + level


def test_what_aggregates_gradients_does_so_in_the_first_phase():
    data = toy(12, 0)
    trial = make_trial(
        recipe=Recipe(epochs=20, batch_size=6), aggregate=functools.partial(scaled, factor=0.0),
        then=(Phase(data.images, data.labels, "all"),),
    )  # fmt: skip
    score, _ = trial.run()
    assert max(score.by_epoch[:20]) < score.last == 1.0


def scaled(loss_and_gradient, key, x, y, *, factor):
    loss, gradient = loss_and_gradient(x, y)
    return loss, jax.tree.map(lambda leaf: factor * leaf, gradient)


def test_a_score_is_its_last_and_its_best_epoch():
    score = Score([0.2, 0.9, 0.5], 1.0)
    assert (score.last, score.peak) == (0.5, 0.9)


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("UGEJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "ugejax" / "trials"


@pytest.mark.parametrize(("then", "cut"), [(None, 1), ("all", 4), ("head", 3)])
def test_a_training_that_was_cut_off_goes_on_from_its_last_epoch(tmp_path, then, cut):
    trial = make_trial(recipe=Recipe(epochs=3, batch_size=6))
    if then:
        trial = dataclasses.replace(trial, then=(Phase(trial.images[:6], trial.labels[:6], then),))
    whole, trained = trial.run()

    def stop(epoch, epochs, accuracy):
        if epoch == cut + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.run(stop, StepCheckpoints(tmp_path))
    told = []
    score, variables = trial.run(lambda epoch, *_: told.append(epoch), StepCheckpoints(tmp_path))
    assert told == list(range(cut + 1, trial.epochs + 1))  # a head, which is not kept, is fitted again
    assert score.by_epoch == whole.by_epoch and score.relabelled == whole.relabelled
    chex.assert_trees_all_equal(variables, trained)


@pytest.mark.parametrize("seal", [None, Seal(bytes(16), required=True)])
def test_what_is_under_way_lies_in_a_folder_until_it_is_done(tmp_path, monkeypatch, seal):
    trial, folder = make_trial(recipe=Recipe(epochs=3, batch_size=6)), tmp_path / "trainings"
    cache = FolderCache(tmp_path / "cache", folder, seal)
    monkeypatch.setattr(checkpoint, "SPACING", 0.0)

    def stop(epoch, epochs, accuracy):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.run_cached(cache, stop)
    (left,) = folder.iterdir()
    assert left.stat().st_mode & 0o077 == 0
    assert [path.name for path in left.iterdir()] == (["2.sealed"] if seal else ["2"])
    told = []
    assert trial.run_cached(cache, lambda epoch, *_: told.append(epoch)).by_epoch == trial.run()[0].by_epoch
    assert told == [3] and not any(folder.iterdir())


def test_a_training_of_seconds_leaves_nothing_on_its_way(tmp_path):
    trial, cache = make_trial(recipe=Recipe(epochs=2, batch_size=6)), FolderCache(tmp_path / "cache", tmp_path / "t")
    told = []
    trial.run_cached(cache, lambda epoch, *_: told.append((tmp_path / "t").exists()))
    assert told == [False, False]
