"""A classifier that is fitted at once, in place of a network that is trained."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ugejax.evaluation.cache import Cache
from ugejax.evaluation.relabel import relabelled_accuracy
from ugejax.evaluation.trial import Score, cached_score, digest_of, environment, keep_score


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier and its images; takes the place of a `Trial`.

    Attributes:
        classifier: see `ugejax.countermeasures.Countermeasure`.
        images: training images, uint8 or float32 [N, H, W, C].
        labels: int32 [N].
        test_images: likewise, [M, H, W, C].
        test_labels: int32 [M].
        seed: of what the classifier draws at random.
        num_classes: number of classes.
    """

    classifier: Callable[..., np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    seed: int
    num_classes: int

    epochs = 1

    @property
    def digest(self) -> str:
        """SHA-256 over everything that determines the score."""
        described = f"{environment()} {self.classifier.__qualname__} {self.seed} {self.num_classes}"
        return digest_of(described, [self.images, self.labels, self.test_images, self.test_labels])

    def run_cached(self, cache: Cache, report: Callable[[int, int, float], None]) -> Score:
        """The score, from the cache if it is there; `report` is called with 1, 1 and the accuracy."""
        digest = self.digest
        if (score := cached_score(cache, digest)) is not None:
            return score
        began = time.perf_counter()
        logits = self.classifier(
            self.images, self.labels, self.test_images, seed=self.seed, num_classes=self.num_classes
        )
        answers = logits.argmax(axis=1)
        best = relabelled_accuracy(answers, self.test_labels, self.num_classes)
        score = Score([float((answers == self.test_labels).mean())], time.perf_counter() - began, best)
        keep_score(cache, digest, score)
        report(1, 1, score.last)
        return score
