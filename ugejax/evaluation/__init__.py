"""Evaluation: train the authorized network and the hackers on originals and on the release, and compare."""

from ugejax.evaluation.cache import Cache
from ugejax.evaluation.candidates import DEFAULT_HACKERS, parse_hackers
from ugejax.evaluation.distillation import DISTILLATIONS, parse_distillations
from ugejax.evaluation.evaluate import evaluate
from ugejax.evaluation.plan import Evaluation
from ugejax.evaluation.results import summarise

__all__ = [
    "DEFAULT_HACKERS",
    "Cache",
    "DISTILLATIONS",
    "Evaluation",
    "evaluate",
    "parse_distillations",
    "parse_hackers",
    "summarise",
]
