"""Several networks in place of one: each is trained by itself, and they answer together."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from ugejax.evaluation.answers import answers_of
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.relabel import relabelled_accuracy
from ugejax.evaluation.trial import Score, Trial


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trials whose networks' probabilities are averaged; takes the place of a `Trial`.

    Attributes:
        members: make the trials, each when it is due; the test images of all of them have the same labels.
        epochs: of each member.
    """

    members: tuple[Callable[[], Trial], ...]
    epochs: int

    def run_cached(self, cache: Cache, report: Callable[[int, int, float], None]) -> Score:
        """The score of the trained members together: one accuracy, since they are asked once, at the end.

        Args:
            cache: in which every member's answers are kept.
            report: called with epoch and epochs, counted over all members, and the accuracy of the one that trains.
        """
        began, summed, labels = time.perf_counter(), np.zeros((0, 0)), np.zeros(0)
        for place, make in enumerate(self.members):

            def after_epoch(epoch: int, epochs: int, accuracy: float, done: int = place) -> None:
                report(done * epochs + epoch, len(self.members) * epochs, accuracy)

            trial = make()
            (logits,) = answers_of(trial, (trial.test_images,), cache, after_epoch)
            answers = softmax(logits, axis=1)
            summed, labels = summed + answers if place else answers, trial.test_labels
        answers = summed.argmax(axis=1)
        best = relabelled_accuracy(answers, labels, len(summed[0]))
        return Score([float((answers == labels).mean())], time.perf_counter() - began, best)
