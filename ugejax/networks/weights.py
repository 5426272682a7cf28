"""Weights of a network of this package in a safetensors file, by their places in its variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from ugejax.errors import UserError
from ugejax.networks.registry import variable_shapes
from ugejax.networks.safetensors import read_safetensors

Weights = Mapping[str, np.ndarray]


def write_weights(path: Path, variables: Any) -> None:
    """Write a network's variables to a file, under names such as "params/body/Conv_0/kernel"."""
    arrays = {_name(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(variables)}
    save_file(arrays, path)


def read_weights(path: Path, network: str, image_shape: tuple[int, ...]) -> Weights:
    """All but the head of a network, by name; the head is that of other classes, and is left in the file.

    Args:
        path: what `write_weights` wrote.
        network: name of the network.
        image_shape: (H, W, C) of the images that it shall take.

    Raises:
        UserError: the file cannot be read, or it is that of another network or of images of another shape.
    """
    shapes = {
        _name(keys): leaf.shape
        for keys, leaf in jax.tree_util.tree_leaves_with_path(variable_shapes(network, 2, image_shape))
    }
    body = {name: shape for name, shape in shapes.items() if not _of_head(name)}
    arrays = read_safetensors(path, lambda names: [name for name in names if name in body])
    for name, shape in body.items():
        if name not in arrays:
            raise UserError(f"{path}: has no {name}: these are no weights of {network}")
        if arrays[name].shape != shape:
            raise UserError(
                f"{path}: {name} is {list(arrays[name].shape)}, where {network} has {list(shape)} for images of "
                f"{'x'.join(map(str, image_shape))}"
            )
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} is not finite")
    return arrays


def with_weights(variables: Any, weights: Weights) -> Any:
    """A network's variables with those weights in place of its own; what they do not name stays."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: np.asarray(weights.get(_name(keys), leaf), leaf.dtype), variables
    )


def _name(keys: tuple[Any, ...]) -> str:
    return "/".join(key.key for key in keys)


def _of_head(name: str) -> bool:
    return name.split("/")[1] == "head"
