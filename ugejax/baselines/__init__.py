"""Baselines: what the field would protect images with, none of which has an authorized side, behind one signature."""

from ugejax.baselines.method import Baseline, BaselineMethod
from ugejax.baselines.registry import BASELINES, assignments_of, change_settings

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineMethod",
    "assignments_of",
    "change_settings",
]
