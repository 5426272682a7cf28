"""One training step as a pure function of (state, data, key)."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.compiler import kept
from ugejax.parallel import spread
from ugejax.training.recipe import Recipe
from ugejax.transforms import compose
from ugejax.transforms.geometry import random_crop

Array = TypeVar("Array", jax.Array, np.ndarray)
Adversary = Callable[[Callable[[jax.Array], jax.Array], jax.Array, jax.Array], jax.Array]
LossAndGradient = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]
Aggregate = Callable[[LossAndGradient, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


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
    """The state before the first step, from a network's freshly initialised or loaded variables."""
    params = variables["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))


def decode(images: Array) -> Array:
    """Images at rest as float32 in [0, 1]: uint8 is divided by 255, float is left alone; of NumPy or of JAX."""
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
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """A step of softmax cross-entropy training.

    Args:
        module: network with `num_classes` and `apply(variables, x, train=..., mutable=[...], rngs={"dropout": key})`.
        optimizer: its optax optimizer.
        recipe: for its augmentation, label smoothing and batch size.
        train_mode: whether batch norm uses the statistics of the batch and units drop out; False for a network whose
            body is frozen.
        adversary: adversary(losses_of_x, key, x [B, H, W, C]) -> the images to train on in place of the augmented x;
            losses_of_x(x) is the loss of each example [B] at the current weights, batch norm in eval mode. None trains
            on x.
        aggregate: aggregate(loss_and_gradient, key, x [B, H, W, C], y [B, K]) -> loss and gradient of the step;
            loss_and_gradient(x, y) gives those of the mean over any examples. None takes the mean over the batch.

    Returns:
        step(state, images [N, H, W, C] uint8 or float, labels int32 [N] or soft float32 [N, K], order int32 [N], key)
        -> (state, mean loss): trains on the batch of `order` that the state's step has come to, the key folded with
        the step. With `recipe.mirror` ~i in the order is image i mirrored, see `ugejax.training.mirror`. Pure; jit it.

    Raises:
        ValueError: when the step is traced with `aggregate` for a network with batch norm.
    """
    augment = compose(recipe.augment)

    def step(state, images, labels, order, key):
        size = min(recipe.batch_size, order.shape[0])
        position = state.step % recipe.steps_per_epoch(order.shape[0]) * size
        batch = jax.lax.dynamic_slice(order, (position,), (size,))
        index = jnp.maximum(batch, ~batch) if recipe.mirror else batch
        x, y = decode(images[index]), labels[index]
        if recipe.mirror:
            x = jnp.where((batch < 0)[:, None, None, None], x[:, :, ::-1], x)
        if aggregate is None:  # what takes its examples one after the other has no use for several devices
            x, y = spread((x, y))
        if y.ndim == 1:
            y = jax.nn.one_hot(y, module.num_classes)
        keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
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
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), value

    return step
