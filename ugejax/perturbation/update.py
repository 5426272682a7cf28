"""The perturbation update: one pure function of (state, batch, key) that descends the sum of the method's losses.

    L(delta) = w_gm L_gm(delta; theta_t) + w_fd L_fd(delta) - w_ud L_ud(delta)

theta_t is a random snapshot of the authorized network's trajectory; L_fd is measured on surrogates, which train at
the same time; random transforms of images and labels lie inside. Where the authorized network is exactly blind to every
feasible delta, L_gm is 0 and L_ud constant, whatever theta, and neither is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ugejax.authorized.network import AuthorizedNetwork
from ugejax.losses import (
    error_minimising,
    feature_cosine,
    filter_cosine,
    gradient_matching_and_grad,
    misalignment,
    relative_l2,
    targeted_error_maximising,
    undistillation,
)
from ugejax.perturbation.feasible import feasible
from ugejax.training.step import TrainState, decode
from ugejax.training.trajectory import snapshot
from ugejax.transforms import mixture

PARAMETRISATIONS = ("class-wise", "sample-wise")
FEATURE_LOSSES = ("error-min", "error-max", "distance")
DISTANCES = {"l2": relative_l2, "cosine": filter_cosine}


@dataclass(frozen=True)
class Method:
    """The settings of the perturbation.

    Attributes:
        eps: budget in units of [0, 1].
        norm: "linf" or "l2" (per image).
        parametrisation: "class-wise" (one free tensor per class, brought into the feasible set of each image) or
            "sample-wise" (one per image).
        start: "stripes" (class-wise waves) or "misaligned" (class means pushed towards a wrong class).
        period: of the stripes in pixels.
        amplitude: of the start, as a multiple of eps.
        epochs: passes of the update over the images; 0 keeps the start.
        step_size: signed-gradient step as a share of eps.
        batch_size: images an update.
        gradient_matching: w_gm.
        gradient_distance: "l2" (relative, per layer) or "cosine" (per filter).
        feature_distance: w_fd.
        feature_loss: "error-min" (on surrogates that train on the perturbed images), or, on surrogates that train on
            the originals, "error-max" (targeted at a wrong class) or "distance" (of penultimate features).
        undistillation: w_ud.
        temperature: of the undistillation.
        surrogates: short names of the networks that the feature distance is measured on; none where it is measured in
            a common feature space alone.
        snapshots: number of snapshots of the authorized network's trajectory.
        transforms: names in `ugejax.transforms.TRANSFORMS`, one of which, drawn anew in each update, lies inside the
            optimisation; () for none.
    """

    eps: float = 8 / 255
    norm: str = "linf"
    parametrisation: str = "class-wise"
    start: str = "stripes"
    period: int = 8
    amplitude: float = 1.0
    epochs: int = 0
    step_size: float = 0.1
    batch_size: int = 64
    gradient_matching: float = 1.0
    gradient_distance: str = "l2"
    feature_distance: float = 1.0
    feature_loss: str = "error-min"
    undistillation: float = 0.0
    temperature: float = 4.0
    surrogates: tuple[str, ...] = ("res-tiny",)
    snapshots: int = 8
    transforms: tuple[str, ...] = ("crop-flip",)


@flax.struct.dataclass
class NoiseState:
    """What the perturbation carries from update to update.

    Attributes:
        step: int32 scalar, updates done.
        noise: float32 [num_classes or N, H, W, C], the free noise tensor.
        surrogates: a `TrainState` for each surrogate.
    """

    step: jax.Array
    noise: jax.Array
    surrogates: tuple[TrainState, ...]


class CommonSpace(NamedTuple):
    """A feature space common to other networks, such as CLIP's image tower, which does not train.

    Attributes:
        encode: images float [B, H, W, C] in [0, 1] to features [B, F], differentiable.
        prototypes: float32 [K, F], one for each class.
    """

    encode: Callable[[jax.Array], jax.Array]
    prototypes: jax.Array


def free_noise(noise: jax.Array, labels: jax.Array, index: jax.Array, method: Method) -> jax.Array:
    """The free noise [B, H, W, C] of images by their labels or their indices in the data set."""
    return noise[labels if method.parametrisation == "class-wise" else index]


def make_update(
    method: Method,
    network: AuthorizedNetwork,
    trajectory: Any,
    surrogates: Sequence[Any],
    optimizers: Sequence[optax.GradientTransformation],
    wrong: jax.Array,
    space: CommonSpace | None = None,
) -> Callable[..., tuple[NoiseState, dict[str, jax.Array]]]:
    """Build the update.

    Args:
        method: settings.
        network: the authorized network.
        trajectory: its variables with a leading axis over the snapshots; None where its view is blind.
        surrogates: the networks of the feature distance, flax modules.
        optimizers: one for each surrogate.
        wrong: int32 [num_classes], the wrong class that misalignment aims at, for each class.
        space: a frozen feature space that the feature distance is measured in as well.

    Returns:
        update(state, images uint8 [N, H, W, C], labels int32 [N], order int32 [N], key) -> (state, losses): one step
        on the batch of `order` that the state's step has come to. Pure, for jit, vmap over keys and pmap. Batch norm
        of the authorized network runs in eval mode, on the snapshot's statistics, so that examples do not mix.
    """
    view, transform = network.view, mixture(method.transforms)
    aim = jax.nn.one_hot(wrong, wrong.shape[0])  # [K, K]: y @ aim gives each class's share to its wrong class
    matches = trajectory is not None and method.gradient_matching > 0
    undistils = trajectory is not None and method.undistillation > 0

    def project(delta, x):
        return feasible(delta, x, view, eps=method.eps, norm=method.norm)

    def authorized_logits(trained: Any, frozen: Any, statistics: Any, x: jax.Array) -> jax.Array:
        variables = {"params": {**frozen, **trained}, **statistics}
        return network.module.apply(variables, x, train=False)

    def feature_loss(module, surrogate, x, x_u, y):
        """L_fd per example, to be minimised; y float [B, K]."""
        if method.feature_loss == "distance":
            phi_x, phi_u = (module.apply(surrogate.variables, z, train=False, method="features") for z in (x, x_u))
            return -feature_cosine(phi_x, phi_u)
        logits = module.apply(surrogate.variables, x_u, train=False)
        if method.feature_loss == "error-max":
            return targeted_error_maximising(logits, y @ aim)
        return error_minimising(logits, y)

    def common_loss(space, x, x_u, y):
        """L_fd per example in the common feature space: away from the original, towards another class."""
        phi_x, phi_u = space.encode(x), space.encode(x_u)
        return misalignment(phi_u, space.prototypes, (y @ aim).argmax(axis=-1)) - feature_cosine(phi_x, phi_u)

    def first_order(delta, x, y, key, states, theta):
        (x_t, y_t), (x_u, _) = transform(key, x, y), transform(key, x + delta, y)  # the same key: the same transform
        each = [feature_loss(m, s, x_t, x_u, y_t).mean() for m, s in zip(surrogates, states, strict=True)]
        if space is not None:
            each.append(common_loss(space, x_t, x_u, y_t).mean())
        losses = {"feature_distance": sum(each) / len(each)}
        total = method.feature_distance * losses["feature_distance"]
        if undistils:
            trained, frozen, statistics = theta
            logits_x, logits_u = (authorized_logits(trained, frozen, statistics, z) for z in (x_t, x_u))
            losses["undistillation"] = undistillation(logits_x, logits_u, y_t, temperature=method.temperature).mean()
            total = total - method.undistillation * losses["undistillation"]
        return total, losses

    def matching(delta, x, y, key, theta):
        trained, frozen, statistics = theta

        def loss(trained, x, y):
            return error_minimising(authorized_logits(trained, frozen, statistics, x), y).mean()

        target = jax.grad(loss)(trained, *transform(key, x, y))
        x_u, back, y_t = jax.vjp(lambda z: transform(key, z, y), x + delta, has_aux=True)
        distance = DISTANCES[method.gradient_distance]
        values, grad = gradient_matching_and_grad(loss, trained, x_u, y_t, target, distance=distance)
        return sum(jax.tree.leaves(values)), back(grad)[0]

    def train_surrogate(module, optimizer, state, x, y, key):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = module.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})
            return error_minimising(logits, y).mean(), updated.get("batch_stats", {})

        grads, batch_stats = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), batch_stats, opt_state)

    def update(state, images, labels, order, key):
        size = min(method.batch_size, order.shape[0])
        position = state.step % max(1, order.shape[0] // size) * size
        index = jax.lax.dynamic_slice(order, (position,), (size,))
        x, y = decode(images[index]), labels[index]
        shares = jax.nn.one_hot(y, wrong.shape[0])
        keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
        snapshot_key, transform_key, train_key, dropout_key = keys
        delta = project(free_noise(state.noise, y, index, method), x)

        theta = None
        if matches or undistils:
            count = jax.tree.leaves(trajectory)[0].shape[0]
            variables = snapshot(trajectory, jax.random.randint(snapshot_key, (), 0, count))
            statistics = {name: value for name, value in variables.items() if name != "params"}
            theta = (*network.split(variables["params"]), statistics)
        grad, losses = jax.grad(first_order, has_aux=True)(delta, x, shares, transform_key, state.surrogates, theta)
        if matches:
            losses["gradient_matching"], second_order = matching(delta, x, shares, transform_key, theta)
            grad = grad + method.gradient_matching * second_order

        # The projection is not differentiated: the gradient at the feasible delta moves the free tensor
        # (straight-through).
        if method.parametrisation == "class-wise":
            moved = jnp.sign(jnp.zeros_like(state.noise).at[y].add(grad))
            noise = jnp.clip(state.noise - method.step_size * method.eps * moved, -2 * method.eps, 2 * method.eps)
        else:
            stepped = project(delta - method.step_size * method.eps * jnp.sign(grad), x)
            noise = state.noise.at[index].set(stepped)

        delta = project(free_noise(noise, y, index, method), x)
        learned = transform(train_key, x + delta if method.feature_loss == "error-min" else x, shares)
        states = tuple(
            train_surrogate(m, o, s, *learned, dropout_key)
            for m, o, s in zip(surrogates, optimizers, state.surrogates, strict=True)
        )
        return NoiseState(state.step + 1, noise, states), losses

    return update
