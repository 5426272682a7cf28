"""A small evaluation, and a trial of it."""

import dataclasses

import jax
import numpy as np

from ugejax.app.keys import build_authorized
from ugejax.authorized import new_key
from ugejax.data import Dataset
from ugejax.evaluation import Evaluation
from ugejax.evaluation.trial import Trial
from ugejax.networks import build, initial_variables
from ugejax.training import Recipe, default_recipe


def toy(n: int, seed: int) -> Dataset:
    """8x8 images of three classes that differ in which third of the rows is bright."""
    labels = np.arange(n, dtype=np.int32) % 3
    images = np.random.default_rng(seed).integers(60, 120, (n, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 100
    return Dataset(images.astype(np.uint8), labels, ("0", "1", "2"))


def make_evaluation(**changes) -> Evaluation:
    originals = toy(60, 0)
    key = new_key(
        b"seed 0", form="plain", network="mlp", image_shape=(8, 8, 1), num_classes=3, step=None,
        recipe=default_recipe("mlp"), from_seed=True,
    )  # fmt: skip
    # Every class looks like the next one: who learns from the release is wrong on clean images.
    released = originals.images[(np.arange(60) + 1) % 60]
    evaluation = Evaluation(originals, released, toy(12, 1), key, build_authorized(key), ("mlp",), ("none",), 2)
    return dataclasses.replace(evaluation, **changes)


def make_trial(**changes) -> Trial:
    data, test = toy(12, 0), toy(6, 1)
    module = build("mlp", 3)
    variables = initial_variables(module, jax.random.key(0), (8, 8, 1))
    trial = Trial(
        module, variables, "all", Recipe(), data.images, data.labels, test.images, test.labels, jax.random.key(0)
    )
    return dataclasses.replace(trial, **changes)
