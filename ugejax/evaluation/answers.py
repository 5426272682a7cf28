"""A trained network's outputs on images, cached beside its score."""

import hashlib
import io
import zipfile
from collections.abc import Callable

import numpy as np

from ugejax.evaluation.cache import Cache
from ugejax.evaluation.trial import Trial, keep_score
from ugejax.training import outputs


def answers_of(
    trial: Trial, queries: tuple[np.ndarray, ...], cache: Cache, report: Callable[[int, int, float], None], *,
    method: str = "__call__",
) -> list[np.ndarray]:  # fmt: skip
    """Train the network of a trial and ask it, or read from the cache what it answered.

    Args:
        trial: who is asked.
        queries: sets of images as it sees them, uint8 or float32 [Q, H, W, C].
        cache: gets the answers, and the trial's score.
        report: called with epoch, epochs and accuracy while it trains.
        method: of the network: "__call__" for its logits, "features" for its penultimate features.

    Returns:
        Its answers to each set of queries, float32 [Q, K] or [Q, D].
    """
    digest = trial.digest
    content = hashlib.sha256(f"{digest} {method}".encode())
    for images in queries:
        content.update(f"{images.shape} {images.dtype}".encode())
        content.update(np.ascontiguousarray(images).tobytes())
    name = f"{content.hexdigest()}.npz"
    try:
        with np.load(io.BytesIO(cache.read(name) or b"")) as kept:
            return [kept[one] for one in kept.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged: do it again
    with cache.under_way(digest) as snapshots:
        score, variables = trial.run(report, snapshots)
        keep_score(cache, digest, score)
        answers = [outputs(trial.module, variables, x, method) for x in queries]
        file = io.BytesIO()
        np.savez(file, *answers)
        cache.write(name, file.getvalue())
    return answers
