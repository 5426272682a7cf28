"""Baselines: what the field would protect images with, none of which has an authorized side, behind one signature."""

from ugejax.baselines.method import Baseline, BaselineMethod, NoSettings
from ugejax.baselines.registry import BASELINES, assignments_of, change_settings
from ugejax.baselines.release import release
from ugejax.reporting import Report

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineMethod",
    "NoSettings",
    "Report",
    "assignments_of",
    "change_settings",
    "release",
]
