"""A hacker who queries the trained authorized network and trains a student on its answers."""

from dataclasses import dataclass

import jax
import numpy as np

from ugejax.errors import UserError
from ugejax.registry import Registry, split_names


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


DISTILLATIONS: Registry[Distillation] = Registry(
    "distillation",
    {
        "released-soft": Distillation(False, 4.0, "queries the released images, gets soft labels (temperature 4)"),
        "released-hard": Distillation(False, None, "queries the released images, gets hard labels"),
        "own-soft": Distillation(True, 4.0, "queries natural images of his own, gets soft labels (temperature 4)"),
        "own-hard": Distillation(True, None, "queries natural images of his own, gets hard labels"),
    },
)


def parse_distillations(names: str) -> tuple[str, ...]:
    """A comma-separated list of names, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    chosen = split_names(names)
    for name in chosen:
        DISTILLATIONS.find(name, "distillations")
    if not chosen:
        raise UserError("names none; leave it out", argument="distillations")
    return chosen


def student_labels(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """The teacher's answers as labels: soft float32 [N, K], or without a temperature hard int32 [N]."""
    if temperature is None:
        return logits.argmax(axis=1).astype(np.int32)
    return np.asarray(jax.nn.softmax(logits / temperature, axis=1), np.float32)
