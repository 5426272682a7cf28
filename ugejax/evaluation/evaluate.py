"""Which trials an evaluation consists of, and the rows that they make."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ugejax.authorized import AuthorizedNetwork, Key, build_authorized, new_key, seen
from ugejax.countermeasures import COUNTERMEASURES
from ugejax.data import Dataset
from ugejax.errors import UserError
from ugejax.evaluation.trial import Score, Trial
from ugejax.networks import NETWORKS, build
from ugejax.training import Recipe, default_recipe

DEFAULT_HACKERS = ("cnn", "cnn-other-init", "cnn-nonorm", "mlp", "res-tiny", "wrong-key")
OTHER_INIT = "-other-init"
# What the authorized side does as well: it augments, but has no reason to fight the release.
AUTHORIZED_COUNTERMEASURES = ("none", "crop-flip")


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes:
        originals: training images before protection.
        released: uint8 [N, H, W, C], the same after it.
        test: clean test images.
        key: the key, None to leave the authorized side and the wrong key out.
        network: the authorized network of the key.
        hackers: names of networks, with "-other-init" for a second initialisation; "wrong-key" for the authorized
            architecture with another secret.
        countermeasures: names in `COUNTERMEASURES`.
        epochs: epochs without augmentation; None for each network's own.
        seeds: trials of each row, with seeds 0 .. seeds - 1.
    """

    originals: Dataset
    released: np.ndarray
    test: Dataset
    key: Key | None
    network: AuthorizedNetwork | None
    hackers: tuple[str, ...] = DEFAULT_HACKERS
    countermeasures: tuple[str, ...] = ("none",)
    epochs: int | None = None
    seeds: int = 1


def parse_hackers(names: str) -> tuple[str, ...]:
    """A comma-separated list of hackers, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    known = [*NETWORKS, *(name + OTHER_INIT for name in NETWORKS), "wrong-key"]
    for name in chosen:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(
                f"--hackers: unknown {name!r}: {hint}choose among {', '.join(NETWORKS)}, each also with {OTHER_INIT}, "
                "and wrong-key"
            )
    if not chosen:
        raise UserError("--hackers: names none")
    return chosen


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One row to be: who trains, and on what he sees of any images."""

    role: str
    network: str
    countermeasure: str
    seed: int
    recipe: Recipe
    module: Any
    variables: Any
    trains: str
    key: jax.Array
    see_train: Callable[[np.ndarray], np.ndarray]
    see_test: Callable[[np.ndarray], np.ndarray]


def _candidates(evaluation: Evaluation) -> Iterator[_Candidate]:
    labels, num_classes = evaluation.originals.labels, len(evaluation.originals.class_names)
    for seed in range(evaluation.seeds):
        for name in evaluation.countermeasures:
            countermeasure = COUNTERMEASURES[name]
            if evaluation.key is not None and evaluation.network is not None and name in AUTHORIZED_COUNTERMEASURES:
                key, network = evaluation.key, evaluation.network
                recipe = _recipe(key.network, key.recipe, evaluation.epochs, countermeasure.augment)
                view = network.view
                yield _Candidate(
                    "authorized", key.network, name, seed, recipe, network.module, network.variables, network.trains,
                    jax.random.fold_in(key.prng("training"), seed),
                    lambda x, view=view: seen(view, x), lambda x, view=view: seen(view, x),
                )  # fmt: skip
            for hacker in evaluation.hackers:
                base = jax.random.fold_in(jax.random.key(1), seed)
                if hacker == "wrong-key":
                    if evaluation.key is None:
                        continue
                    wrong = _wrong_key(evaluation.key, seed)
                    network = build_authorized(wrong)
                    recipe = _recipe(wrong.network, wrong.recipe, evaluation.epochs, countermeasure.augment)
                    yield _Candidate(
                        "wrong_key", wrong.network, name, seed, recipe, network.module, network.variables,
                        network.trains, wrong.prng("training"),
                        lambda x, c=countermeasure, v=network.view: seen(v, c.train_images(x, labels)),
                        lambda x, c=countermeasure, v=network.view: seen(v, c.test_images(x)),
                    )  # fmt: skip
                    continue
                short = hacker.removesuffix(OTHER_INIT)
                index = list(NETWORKS).index(short) + len(NETWORKS) * (short != hacker)
                recipe = default_recipe(short, epochs=evaluation.epochs, augment=countermeasure.augment)
                yield _Candidate(
                    "hacker", hacker, name, seed, recipe, build(short, num_classes), None, "all",
                    jax.random.fold_in(base, index),
                    lambda x, c=countermeasure: c.train_images(x, labels), countermeasure.test_images,
                )  # fmt: skip


def _recipe(network: str, own: Recipe, epochs: int | None, augment: bool) -> Recipe:
    """The key's recipe, with the epochs and the augmentation of the evaluation."""
    target = default_recipe(network, epochs=epochs or own.epochs, augment=augment)
    return replace(own, epochs=target.epochs, augment=augment)


def _wrong_key(key: Key, seed: int) -> Key:
    """A key of the right family with a secret of its own, as a hacker would draw it who knows all but the secret."""
    architecture = {name: value for name, value in key.__dict__.items() if name != "secret"}
    return new_key(f"hacker {seed}".encode(), **architecture)


def evaluate(
    evaluation: Evaluation, cache: Path, report: Callable[[int, int, str, int, int, float], None] = lambda *_: None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run all trials.

    Args:
        evaluation: what to evaluate.
        cache: folder of the scores, so that a trial that was done is not done again.
        report: called with trials done, trials in all, what is training now, its epoch, its epochs, its accuracy.

    Returns:
        The rows of `results.json`, and for each row its accuracy by epoch.
    """
    labels, test = evaluation.originals.labels, evaluation.test
    candidates = list(_candidates(evaluation))
    total = sum(3 if candidate.role == "authorized" else 2 for candidate in candidates)
    done, rows, curves = 0, [], []

    def score(candidate: _Candidate, kind: str, images: np.ndarray, test_images: np.ndarray) -> Score:
        nonlocal done
        trial = Trial(
            candidate.module, candidate.variables, candidate.trains, candidate.recipe, images, labels, test_images,
            test.labels, candidate.key,
        )  # fmt: skip
        title = f"{candidate.role} {candidate.network} {candidate.countermeasure} on {kind}"
        result = trial.run_cached(cache, lambda e, n, accuracy: report(done, total, title, e, n, accuracy))
        done += 1
        return result

    for candidate in candidates:
        test_images = candidate.see_test(test.images)
        clean, protected = (
            score(candidate, kind, candidate.see_train(images), test_images)
            for kind, images in (("originals", evaluation.originals.images), ("release", evaluation.released))
        )
        row = {
            "role": candidate.role,
            "network": candidate.network,
            "countermeasure": candidate.countermeasure,
            "clean_accuracy": clean.last,
            "clean_peak_accuracy": clean.peak,
            "protected_accuracy": protected.last,
            "protected_peak_accuracy": protected.peak,
            "retention": protected.last / clean.last if clean.last else None,
            "epochs": candidate.recipe.epochs,
            "seconds": round(clean.seconds + protected.seconds, 2),
            "seed": candidate.seed,
        }
        if candidate.role == "authorized":
            # What the secret part costs: the same backbone without it.
            backbone = score(candidate, "originals without the view", evaluation.originals.images, test.images)
            row["backbone_accuracy"] = backbone.last
        rows.append(row)
        curves.append({"clean": clean.by_epoch, "protected": protected.by_epoch})
    return rows, curves
