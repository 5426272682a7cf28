"""Trials of one architecture whose networks train at the same time, for an accelerator that one does not fill."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.compiler import on_cpu
from ugejax.errors import UserError
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.relabel import relabelled
from ugejax.evaluation.trial import Score, Trial
from ugejax.memory import OutOfMemory, ran_out
from ugejax.training import accuracy, fit_together, initial_state
from ugejax.training.together import MOST


def groups(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Those of the trials that can train together, in groups of 2 to `MOST`.

    A group has one architecture, recipe and countermeasure, and images and labels of one shape; each network has its
    own initial weights, images, and key. A trial that is there twice is once in a group; one with phases of fine-tuning
    is in none.
    """
    alike: dict[tuple, dict[str, Trial]] = {}
    for trial in trials:
        if not trial.then:
            shapes = tuple((array.shape, str(array.dtype)) for array in (trial.images, trial.labels))
            alike.setdefault((trial.described, shapes), {})[trial.digest] = trial
    found = []
    for trials_by_digest in alike.values():
        members = list(trials_by_digest.values())
        found += [members[start : start + MOST] for start in range(0, len(members), MOST)]
    return [group for group in found if len(group) > 1]


def run_together(
    trials: list[Trial], report: Callable[[int, int, float], None] = lambda epoch, epochs, accuracy: None
) -> list[Score]:
    """Train and score a group, see `groups`; to rounding each score is that of `Trial.run`.

    Where the device's memory does not hold all of them, they are trained in halves, down to one by one.

    Args:
        trials: the group.
        report: called after every epoch with epoch, epochs and the mean accuracy.

    Raises:
        UserError: a loss was not finite.
        OutOfMemory: the device's memory does not hold one of them.
    """
    try:
        return _all_at_once(trials, report)
    except (OutOfMemory, jax.errors.JaxRuntimeError) as error:
        if len(trials) == 1 or not (isinstance(error, OutOfMemory) or ran_out(error)):
            raise
        half = len(trials) // 2
    # Not in the handler, whose error holds on to what lies on the device.
    return [*run_together(trials[:half], report), *run_together(trials[half:], report)]


def _all_at_once(trials: list[Trial], report: Callable[[int, int, float], None]) -> list[Score]:
    began, first = time.perf_counter(), trials[0]
    by_epoch: list[list[float]] = [[] for _ in trials]
    optimizer, step = first.make_step()
    variables, keys = zip(*(trial.start() for trial in trials), strict=True)
    tests = {id(trial.test_images): jnp.asarray(trial.test_images) for trial in trials}

    def score(epoch, states):
        for curve, trial, state in zip(by_epoch, trials, states, strict=True):
            test_images = tests[id(trial.test_images)]
            curve.append(
                accuracy(
                    trial.module, state.variables, test_images, trial.test_labels, mirrored=first.recipe.mirrored_test
                )
            )
        report(epoch, first.epochs, float(np.mean([curve[-1] for curve in by_epoch])))

    states = fit_together(
        step, [initial_state(start, optimizer) for start in variables], [trial.images for trial in trials],
        [trial.labels for trial in trials], first.recipe, keys, after_epoch=score,
    )  # fmt: skip
    best = [
        relabelled(
            trial.module, state.variables, trial.test_images, trial.test_labels, mirrored=first.recipe.mirrored_test
        )
        for trial, state in zip(trials, states, strict=True)
    ]
    seconds = (time.perf_counter() - began) / len(trials)
    return [Score(curve, seconds, renamed) for curve, renamed in zip(by_epoch, best, strict=True)]


def worthwhile() -> bool:
    """Whether networks train faster together than one after the other: by backend, not on a CPU."""
    return not on_cpu()


def train_ahead(
    named: Iterable[tuple[str, Trial]], cache: Cache, report: Callable[[str, int, int, float], None]
) -> Iterator[int]:
    """Train together those of the trials that can be and whose scores the cache does not have; leave the scores there.

    Args:
        named: network and trial; those that are in no group are left to `Trial.run_cached`.
        cache: where they are kept.
        report: called with what trains, epoch, epochs and mean accuracy.

    Yields:
        How many were trained, for each group when it is done.

    Raises:
        UserError: a loss was not finite; it tells in which training.
    """
    named = [(name, trial) for name, trial in named if trial.cached(cache) is None]
    names = {id(trial): name for name, trial in named}
    for group in groups(trial for _, trial in named):
        title = f"{', '.join(names[id(trial)] for trial in group)} together"
        try:
            scores = run_together(group, functools.partial(report, title))
        except UserError as error:
            raise UserError(f"{title}: {error}") from error
        for trial, score in zip(group, scores, strict=True):
            trial.keep(cache, score)
        yield len(group)
