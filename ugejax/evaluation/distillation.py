"""A hacker who queries the trained authorized network and trains a student on its answers."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.batches import at_a_time
from ugejax.errors import UserError
from ugejax.evaluation.trial import Trial
from ugejax.training import decode


@dataclass(frozen=True)
class Distillation:
    """What the hacker asks, and what he gets.

    Attributes:
        own_images: whether he queries natural images of his own; False for the released ones.
        temperature: T of the answers softmax(logits / T) [N, K] (Hinton et al., arXiv 1503.02531, equation 1); None
            for hard labels. The student learns them at temperature 1, so that its logits come out T times smaller.
        summary: one line for people.
    """

    own_images: bool
    temperature: float | None
    summary: str


DISTILLATIONS: dict[str, Distillation] = {
    "released-soft": Distillation(False, 4.0, "queries the released images, gets soft labels (temperature 4)"),
    "released-hard": Distillation(False, None, "queries the released images, gets hard labels"),
    "own-soft": Distillation(True, 4.0, "queries natural images of his own, gets soft labels (temperature 4)"),
    "own-hard": Distillation(True, None, "queries natural images of his own, gets hard labels"),
}


def parse_distillations(names: str) -> tuple[str, ...]:
    """A comma-separated list of names, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in DISTILLATIONS:
            raise UserError(f"--distillation: unknown {name!r}: choose among {', '.join(DISTILLATIONS)}")
    if not chosen:
        raise UserError("--distillation: names none; leave it out")
    return chosen


def student_labels(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """The teacher's answers as labels: soft float32 [N, K], or without a temperature hard int32 [N]."""
    if temperature is None:
        return logits.argmax(axis=1).astype(np.int32)
    return np.asarray(jax.nn.softmax(logits / temperature, axis=1), np.float32)


def teacher_logits(
    teacher: Trial, queries: tuple[np.ndarray, ...], folder: Path, report: Callable[[int, int, float], None]
) -> list[np.ndarray]:
    """Train a teacher and ask it, or read from the cache folder what it answered.

    Args:
        teacher: the authorized network's trial.
        queries: sets of images as it sees them, uint8 or float32 [Q, H, W, C].
        folder: the cache, which gets the teacher's score as well.
        report: called with epoch, epochs and accuracy while it trains.

    Returns:
        Its logits for each set of queries, float32 [Q, K].
    """
    content = hashlib.sha256(teacher.digest.encode())
    for images in queries:
        content.update(f"{images.shape} {images.dtype}".encode())
        content.update(np.ascontiguousarray(images).tobytes())
    file = folder / f"{content.hexdigest()}.npz"
    try:
        with np.load(file) as answers:
            return [answers[name] for name in answers.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # not there, or cut off while it was written: do it again
    score, variables = teacher.run(report)
    teacher.keep(folder, score)
    size = at_a_time(queries[0].shape[1:], most=500)
    predict = jax.jit(lambda x: teacher.module.apply(variables, decode(x), train=False))
    answers = [
        np.concatenate([np.asarray(predict(jnp.asarray(x[i : i + size]))) for i in range(0, len(x), size)])
        for x in queries
    ]
    temporary = file.with_suffix(f".{os.getpid()}.npz")
    np.savez(temporary, *answers)
    temporary.replace(file)
    return answers
