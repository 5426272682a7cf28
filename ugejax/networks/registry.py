"""The networks by the field's short names: a new one is one file beside this one and one line in `NETWORKS`."""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ugejax.errors import UserError
from ugejax.networks.classifier import Classifier
from ugejax.networks.resnet import r18, r20, r56
from ugejax.networks.small import cnn, cnn_nonorm, mlp, res_tiny

NETWORKS: dict[str, Callable[[int], Classifier]] = {
    "cnn": cnn,
    "cnn-nonorm": cnn_nonorm,
    "mlp": mlp,
    "res-tiny": res_tiny,
    "r18": r18,
    "r20": r20,
    "r56": r56,
}


def build(name: str, num_classes: int) -> Classifier:
    """The network of that short name, not yet initialised.

    Args:
        name: a key of `NETWORKS`.
        num_classes: number of logits.

    Raises:
        UserError: there is no network of that name.
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"unknown network {name!r}: {hint}choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name](num_classes)


def count_parameters(variables: Mapping[str, Any]) -> int:
    """Number of values in variables["params"]; running statistics do not count."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
