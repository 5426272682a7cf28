"""One training step as a pure function of (state, batch, key)."""

from collections.abc import Callable
from typing import Any, TypeVar

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.compiler import kept
from ugejax.networks import Classifier
from ugejax.parallel import averaged, of_shard, replicated
from ugejax.training.recipe import Recipe
from ugejax.transforms import compose
from ugejax.transforms.geometry import random_crop

Array = TypeVar("Array", jax.Array, np.ndarray)
Adversary = Callable[[Callable[[jax.Array], jax.Array], jax.Array, jax.Array], jax.Array]
LossAndGradient = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]
Aggregate = Callable[[LossAndGradient, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


@flax.struct.dataclass
class Batch:
    """The images of a step.

    Attributes:
        x: images, uint8 or float in [0, 1], [B, H, W, C].
        y: labels, int32 [B], or the shares of the classes, float [B, K].
        index: int32 [B], the images' places in what a state holds for each image; None where it holds nothing.
    """

    x: Any
    y: Any
    index: Any = None


@flax.struct.dataclass
class TrainState:
    """What a training run carries from step to step.

    Attributes:
        step: int32 scalar, steps done.
        params: the network's weights.
        batch_stats: running statistics of batch norm, {} where there is none.
        opt_state: the optimizer's state.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `module.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats} if self.batch_stats else {"params": self.params}


def initial_state(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state of a training before its first step.

    Args:
        variables: of the network, freshly initialised or loaded: {"params": weights} and perhaps "batch_stats".
        optimizer: by which it is trained.
    """
    params = variables["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))


def num_classes(module: Any, variables: Any, x: jax.Array) -> int:
    """Number of logits of a network for images x [B, H, W, C], which not every network tells."""
    if hasattr(module, "num_classes"):
        return module.num_classes
    return jax.eval_shape(lambda v, x: module.apply(v, x, train=False), variables, x).shape[-1]


def decode(images: Array) -> Array:
    """The images as float32 in [0, 1]: uint8 is divided by 255, float is left alone.

    Args:
        images: [..., H, W, C], of NumPy or of JAX.
    """
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images


@kept
def freeze(optimizer: optax.GradientTransformation, trains: str) -> optax.GradientTransformation:
    """The optimizer for the part of a network that trains: "all", or "head", which leaves every other weight alone."""
    if trains == "all":
        return optimizer

    def label(params):
        # A label may stand for a whole subtree.
        return {name: "train" if name == trains else "frozen" for name in params}

    return optax.partition({"train": optimizer, "frozen": optax.set_to_zero()}, label)


@kept
def make_train_step(
    module: Any,
    optimizer: optax.GradientTransformation,
    recipe: Recipe,
    *,
    train_mode: bool = True,
    adversary: Adversary | None = None,
    aggregate: Aggregate | None = None,
    axis_name: str | None = None,
    dtype: Any = None,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """A step of softmax cross-entropy training.

    Args:
        module: network with `apply(variables, x, train=..., mutable=[...], rngs={"dropout": key})`, as a module of Flax
            or `ugejax.networks.Functional`.
        optimizer: its optax optimizer.
        recipe: for its augmentation, shifts and label smoothing.
        train_mode: whether batch norm uses the statistics of the batch and units drop out; False for a network whose
            body is frozen.
        adversary: adversary(losses_of_x, key, x [B, H, W, C]) -> the images to train on in place of the augmented x;
            losses_of_x(x) is the loss of each example [B] at the current weights, batch norm in eval mode. None trains
            on x.
        aggregate: aggregate(loss_and_gradient, key, x [B, H, W, C], y [B, K]) -> loss and gradient of the step;
            loss_and_gradient(x, y) gives those of the mean over any examples. None takes the mean over the batch.
        axis_name: of the axis of `jax.pmap` or `jax.vmap` over whose shards of a batch gradients, losses and running
            statistics are averaged. Each shard draws augmentation and dropout of its own, and batch norm in train mode
            normalises a shard by itself.
        dtype: in which the body of a network of this package computes, such as jnp.bfloat16, see `Classifier`; None
            leaves it as it is. What is trained, the state, is float32.

    Returns:
        step(state, batch, key) -> (state, mean loss), of a `Batch`; the PRNG key is folded with the state's step. Pure,
        for jit, vmap and pmap; `ugejax.training.loop` says where batches come from.

    Raises:
        ValueError: when the step is traced with `aggregate` for a network with batch norm.
    """
    augment = compose(recipe.augment)
    if dtype is not None and isinstance(module, Classifier):
        module = module.copy(dtype=dtype)

    def step(state, batch, key):
        if aggregate is not None:  # what takes its examples one after the other has no use for several devices
            batch = replicated(batch)
        chex.assert_rank([batch.x, batch.y], [4, {1, 2}])
        chex.assert_equal_shape_prefix([batch.x, batch.y], 1)
        x, y = decode(batch.x), batch.y
        if y.ndim == 1:
            y = jax.nn.one_hot(y, num_classes(module, state.variables, x))
        keys = jax.random.split(of_shard(jax.random.fold_in(key, state.step), axis_name), 4)
        augment_key, adversary_key, dropout_key, aggregate_key = keys
        if recipe.shift:
            x = random_crop(jax.random.fold_in(augment_key, 0), x, padding=recipe.shift, border="reflect")
        x, y = augment(augment_key, x, y)
        if recipe.label_smoothing:
            y = optax.smooth_labels(y, recipe.label_smoothing)
        if adversary is not None:

            def losses_of_x(x):
                return optax.softmax_cross_entropy(module.apply(state.variables, x, train=False), y)

            x = adversary(losses_of_x, adversary_key, x)

        def loss(params, x, y):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = module.apply(
                variables, x, train=train_mode, mutable=["batch_stats"], rngs={"dropout": dropout_key}
            )
            return optax.softmax_cross_entropy(logits, y).mean(), updated.get("batch_stats", {})

        # x is a constant here: no gradient passes through the adversary.
        if aggregate is None:
            (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params, x, y)
        else:
            if state.batch_stats:
                raise ValueError(
                    "batch norm mixes the examples of a batch: none has a gradient of its own to aggregate"
                )

            def loss_and_gradient(x, y):
                return jax.value_and_grad(lambda params: loss(params, x, y)[0])(state.params)

            batch_stats = {}
            value, grads = aggregate(loss_and_gradient, aggregate_key, x, y)
        value, grads, batch_stats = averaged((value, grads, batch_stats), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), value

    return step
