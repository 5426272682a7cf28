"""Evaluation: train the authorized network and the hackers on originals and on the release, and compare."""

from ugejax.evaluation.evaluate import DEFAULT_HACKERS, Evaluation, evaluate, parse_hackers
from ugejax.evaluation.results import summarise, write_results

__all__ = ["DEFAULT_HACKERS", "Evaluation", "evaluate", "parse_hackers", "summarise", "write_results"]
