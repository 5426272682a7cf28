"""Accuracy of a network under the best renaming of its answers, for a hacker who has some labelled images."""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ugejax.training import outputs


def relabelled_accuracy(answers: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Accuracy under the best one-to-one map of the answers to the classes.

    A perturbation that makes a network take each class for another one, and always for the same, is undone by whoever
    renames its answers; it takes him a few labelled images. Here the map is found on the test images themselves, so
    that of few of them it flatters: of chance answers to n images of K classes by some sqrt(K / n).

    Args:
        answers: int [N] in [0, num_classes).
        labels: int [N], likewise.
        num_classes: K.

    Returns:
        float in [0, 1], at least the accuracy without a map.
    """
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    return float(confusion[linear_sum_assignment(confusion, maximize=True)].sum() / len(labels))


def relabelled(module: Any, variables: Any, images: np.ndarray, labels: np.ndarray, *, mirrored: bool) -> float:
    """`relabelled_accuracy` of a trained network; `mirrored` as for `ugejax.training.accuracy`."""
    logits = outputs(module, variables, images)
    if mirrored:
        logits = logits + outputs(module, variables, images[:, :, ::-1])
    return relabelled_accuracy(logits.argmax(axis=1), np.asarray(labels), logits.shape[1])
