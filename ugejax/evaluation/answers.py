"""A trained network's outputs on images, cached beside its score."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ugejax.evaluation.trial import OTHER_CACHE, Trial
from ugejax.training import outputs
from ugejax.whole import replaced


def answers_of(
    trial: Trial, queries: tuple[np.ndarray, ...], folder: Path, report: Callable[[int, int, float], None], *,
    method: str = "__call__",
) -> list[np.ndarray]:  # fmt: skip
    """Train the network of a trial and ask it, or read from the cache folder what it answered.

    Args:
        trial: who is asked.
        queries: sets of images as it sees them, uint8 or float32 [Q, H, W, C].
        folder: the cache, which gets the trial's score as well.
        report: called with epoch, epochs and accuracy while it trains.
        method: of the network: "__call__" for its logits, "features" for its penultimate features.

    Returns:
        Its answers to each set of queries, float32 [Q, K] or [Q, D].
    """
    content = hashlib.sha256(f"{trial.digest} {method}".encode())
    for images in queries:
        content.update(f"{images.shape} {images.dtype}".encode())
        content.update(np.ascontiguousarray(images).tobytes())
    file = folder / f"{content.hexdigest()}.npz"
    try:
        with np.load(file) as answers:
            return [answers[name] for name in answers.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # not there, or cut off while it was written: do it again
    score, variables = trial.run(report)
    trial.keep(folder, score)
    answers = [outputs(trial.module, variables, x, method) for x in queries]
    with replaced(file, shared=True, otherwise=OTHER_CACHE) as whole_file:
        np.savez(whole_file, *answers)
    return answers
