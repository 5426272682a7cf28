"""Losses of the method: pure functions of arrays and pytrees, per layer or per example, never reduced.

Symbols throughout: ``theta`` the weights that train (``params``), ``delta`` the perturbation, ``x`` the original and
``x_u = x + delta`` the released images, ``y`` the labels, ``l`` the classification loss, ``f`` the network, ``D`` a
distance.
"""

from ugejax.losses.feature_distance import (
    class_prototypes,
    error_minimising,
    feature_cosine,
    misalignment,
    targeted_error_maximising,
)
from ugejax.losses.gradient_matching import (
    filter_cosine,
    gradient_matching,
    gradient_matching_and_grad,
    gradient_matching_to,
    relative_l2,
)
from ugejax.losses.undistillation import undistillation

__all__ = [
    "class_prototypes",
    "error_minimising",
    "feature_cosine",
    "filter_cosine",
    "gradient_matching",
    "gradient_matching_and_grad",
    "gradient_matching_to",
    "misalignment",
    "relative_l2",
    "targeted_error_maximising",
    "undistillation",
]
