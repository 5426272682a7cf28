"""The features that trained networks compute of test images, for the pictures of a report."""

import functools
from collections.abc import Callable

import numpy as np

from ugejax.data.dataset import stratified_subset
from ugejax.errors import UserError
from ugejax.evaluation.answers import answers_of
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.plan import Evaluation, plain_trials

N_IMAGES = 500  # as many as a chart can hold
N_CLASSES = 10  # more cannot be told apart by colour and shape
DIMENSIONS = 50  # what van der Maaten and Hinton keep before t-SNE


def learned_features(
    evaluation: Evaluation, cache: Cache, report: Callable[[str, int, int, float], None]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Penultimate features of test images after training without countermeasure, their first principal components.

    Who is asked: the authorized network trained on the release, and the first hacker trained on the release and on the
    originals. Where the evaluation trains them as well, nothing is trained twice.

    Args:
        evaluation: what is evaluated.
        cache: of finished trials.
        report: called with who trains, epoch, epochs and accuracy.

    Returns:
        The labels of up to 500 test images of the first ten classes, int32 [M], and for each trained network their
        features, float32 [M, D], D at most 50.

    Raises:
        UserError: a training failed.
    """
    few = np.flatnonzero(evaluation.test.labels < N_CLASSES)
    labels = evaluation.test.labels[few]
    few = few[stratified_subset(labels, min(N_IMAGES, len(few)), 0)]
    learned = {}
    for title, candidate, trial in plain_trials(evaluation):
        seen = candidate.sees(evaluation.test.images[few])
        try:
            (features,) = answers_of(trial, (seen,), cache, functools.partial(report, title), method="features")
        except UserError as error:
            raise UserError(f"{title}: {error}") from error
        from sklearn.decomposition import PCA  # imported late: scikit-learn takes a second to load

        components = PCA(min(DIMENSIONS, *features.shape), svd_solver="full")
        learned[title] = components.fit_transform(features.astype(np.float32))
    return evaluation.test.labels[few], learned
