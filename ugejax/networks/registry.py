"""The networks by the field's short names: a new one is one function beside this file and one line in `NETWORKS`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ugejax.compiler import kept
from ugejax.networks.classifier import Classifier
from ugejax.networks.densenet import de121
from ugejax.networks.mixer import convmixer, mlp_mixer
from ugejax.networks.mobile import mv2, shufflenet_v2
from ugejax.networks.preactivation import se18, wrn_28_10
from ugejax.networks.resnet import r18, r20, r50, r56
from ugejax.networks.small import cnn, cnn_nonorm, mlp, res_tiny
from ugejax.networks.speedrun import speedrun, speedrun_wide
from ugejax.networks.transformer import cait_small, vit_small
from ugejax.networks.vgg import vgg16_bn
from ugejax.registry import Registry


@dataclass(frozen=True)
class Network:
    """A network, and how it is trained if nothing else is asked for.

    What it takes from training images before the first step is told by its body, see `Classifier.prepare`.

    Attributes:
        build: build(num_classes) -> the network, not yet initialised; the first line of its docstring is shown to
            people.
        recipe: name in `ugejax.training.recipe.RECIPES`.
    """

    build: Callable[[int], Classifier]
    recipe: str


NETWORKS = Registry(
    "network",
    {
        "cnn": Network(cnn, "small"),
        "cnn-nonorm": Network(cnn_nonorm, "small"),
        "mlp": Network(mlp, "small"),
        "res-tiny": Network(res_tiny, "small"),
        "r18": Network(r18, "sgd"),
        "r20": Network(r20, "sgd"),
        "r56": Network(r56, "sgd"),
        "r50": Network(r50, "sgd"),
        "vgg16-bn": Network(vgg16_bn, "sgd"),
        "se18": Network(se18, "sgd"),
        "mv2": Network(mv2, "sgd"),
        "shufflenet-v2": Network(shufflenet_v2, "sgd"),
        "de121": Network(de121, "sgd"),
        "wrn-28-10": Network(wrn_28_10, "sgd"),
        "vit-small": Network(vit_small, "patches"),
        "cait-small": Network(cait_small, "patches"),
        "convmixer": Network(convmixer, "patches"),
        "mlp-mixer": Network(mlp_mixer, "patches"),
        "speedrun": Network(speedrun, "speedrun"),
        "speedrun-wide": Network(speedrun_wide, "speedrun"),
    },
)


def build(name: str, num_classes: int, *, dtype: Any = None) -> Classifier:
    """The network of that short name, not yet initialised.

    Args:
        name: a key of `NETWORKS`.
        num_classes: number of logits.
        dtype: in which its body computes, see `Classifier`.

    Raises:
        UserError: there is no network of that name.
    """
    network = NETWORKS.find(name).build(num_classes)
    return network if dtype is None else network.copy(dtype=dtype)


def initial_variables(module: Any, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """A network's variables before any training: `module.init` in one compiled program.

    Outside of `jax.jit` each of some hundred small operations is a program of its own; the weights are the same.

    Args:
        module: a flax network.
        key: PRNG key.
        image_shape: (H, W, C) of its images.
    """
    return _initialiser(module)(key, jnp.zeros((1, *image_shape)))


@kept
def _initialiser(module: Any) -> Callable[..., Any]:
    return jax.jit(module.init)


def variable_shapes(name: str, num_classes: int, image_shape: tuple[int, ...]) -> Any:
    """Shapes and dtypes of a network's variables for images of shape (H, W, C); nothing is computed.

    Raises:
        UserError: there is no network of that name, or it cannot take such images.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    # The same function as where weights are drawn, which is then traced once.
    return jax.eval_shape(_initialiser(build(name, num_classes)), jax.eval_shape(lambda: jax.random.key(0)), images)


def has_batch_norm(name: str) -> bool:
    """Whether the network of that short name mixes the examples of a batch in training."""
    return "batch_stats" in variable_shapes(name, 2, (32, 32, 3))


def count_parameters(variables: Mapping[str, Any]) -> int:
    """Number of values in variables["params"]; running statistics do not count."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
