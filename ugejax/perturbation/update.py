"""The perturbation update: one pure function of (state, batch, key) that descends the sum of the method's losses.

    L(delta) = w_gm L_gm(delta; theta_t) + w_fd L_fd(delta) - w_ud L_ud(delta)

theta_t is a random snapshot of the authorized network's trajectory; with several networks L_gm and L_ud are summed over
them. L_fd is measured on surrogates, which train at the same time; random transforms of images and labels lie inside.
Where an authorized network is exactly blind to every feasible delta, its L_gm is 0 and its L_ud constant, whatever
theta, and neither is computed; nor is a loss of weight 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from ugejax.authorized.network import AuthorizedNetwork, split_weights
from ugejax.compiler import kept
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
from ugejax.parallel import spread
from ugejax.perturbation.budget import amplitude
from ugejax.perturbation.feasible import feasible
from ugejax.perturbation.parametrisation import Batch, ClassWise, Generated, Parametrisation, SampleWise
from ugejax.training.step import TrainState, decode
from ugejax.training.trajectory import snapshot
from ugejax.transforms import mixture
from ugejax.views import BlindSet, shared_blind_set

DISTANCES = {"l2": relative_l2, "cosine": filter_cosine}


@dataclass(frozen=True)
class Method:
    """The settings of the perturbation.

    Attributes:
        eps: budget in units of [0, 1].
        norm: "linf" or "l2" (per image).
        parametrisation: "class-wise" (one free tensor per class, brought into the feasible set of each image),
            "sample-wise" (one per image) or "generator" (a network that takes the image and its class's texture).
        start: "stripes" (class-wise waves) or "misaligned" (class means pushed towards a wrong class).
        period: of the stripes' middle wave in pixels, see `class_stripes`.
        amplitude: of the start, as a multiple of eps; with norm "l2" of a value's share of it, eps / sqrt(H W C).
        epochs: passes of the update over the images; 0 keeps the start.
        step_size: signed-gradient step as a share of the same; a generator has none.
        steps_per_batch: steps an update. They share batch, snapshot and transform, hence the clean gradients, and the
            surrogates train once after them.
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
    period: int = 14
    amplitude: float = 1.0
    epochs: int = 0
    step_size: float = 0.1
    steps_per_batch: int = 1
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
        noise: what the parametrisation makes the perturbation from: float32 [num_classes or N, H, W, C], the free noise
            tensor, or a `GeneratorState`.
        surrogates: a `TrainState` for each surrogate.
    """

    step: jax.Array
    noise: Any
    surrogates: tuple[TrainState, ...]


class CommonSpace(NamedTuple):
    """A feature space common to other networks, such as CLIP's image tower, which does not train.

    Attributes:
        encode: images float [B, H, W, C] in [0, 1] to features [B, F], differentiable.
        prototypes: float32 [K, F], one for each class.
    """

    encode: Callable[[jax.Array], jax.Array]
    prototypes: jax.Array


def parametrise(method: Method, shape: tuple[int, ...]) -> Parametrisation:
    """The method's parametrisation for images [H, W, C] of this shape."""
    size = amplitude(method.eps, method.norm, shape)
    step = method.step_size * size
    if method.parametrisation == "generator":
        return Generated(size)
    return ClassWise(size, step) if method.parametrisation == "class-wise" else SampleWise(step)


def make_update(
    method: Method,
    network: AuthorizedNetwork,
    trajectory: Any,
    surrogates: Sequence[Any],
    optimizers: Sequence[optax.GradientTransformation],
    wrong: jax.Array,
    *,
    others: Sequence[tuple[AuthorizedNetwork, Any]] = (),
    space: CommonSpace | None = None,
) -> Partial:
    """Build the update.

    Args:
        method: settings.
        network: the authorized network.
        trajectory: its variables with a leading axis over the snapshots; None where its view is blind.
        surrogates: the networks of the feature distance, flax modules.
        optimizers: one for each surrogate.
        wrong: int32 [num_classes], the wrong class that misalignment aims at, for each class.
        others: further authorized networks, each with its trajectory or None.
        space: a frozen feature space that the feature distance is measured in as well.

    Returns:
        update(state, images uint8 [N, H, W, C], labels int32 [N], order int32 [N], key) -> (state, losses): the steps
        on the batch of `order` that the state's step has come to, and the losses at the last of them. Pure, for jit,
        vmap over keys and pmap. The secret view and the trajectories are bound as arguments: `run_steps` gives them to
        the compiled program instead of making them a part of it. Batch norm of the authorized network runs in eval
        mode, on the snapshot's statistics, so that examples do not mix.
    """
    networks = ((network, trajectory), *others)
    taught = [(network, trajectory) for network, trajectory in networks if trajectory is not None]
    bound = _Bound(
        shared_blind_set([network.view for network, _ in networks]),
        tuple(trajectory for _, trajectory in taught),
        jax.nn.one_hot(wrong, wrong.shape[0]),
        None if space is None else space.prototypes,
    )
    parts = tuple((network.module, network.trains) for network, _ in taught)
    encode = None if space is None else space.encode
    return Partial(_update(method, parts, tuple(surrogates), tuple(optimizers), encode), bound)


class _Bound(NamedTuple):
    """The arrays that an update is bound to: arguments of the compiled program, never constants in it.

    Attributes:
        view: the blind set that all authorized networks share.
        trajectories: of the networks whose gradients are matched.
        aim: float32 [K, K]; y @ aim gives each class's share to its wrong class.
        prototypes: float32 [K, F] in the common feature space; None without one.
    """

    view: BlindSet
    trajectories: tuple[Any, ...]
    aim: jax.Array
    prototypes: jax.Array | None


@kept
def _update(
    method: Method,
    taught: tuple[tuple[Any, str], ...],
    surrogates: tuple[Any, ...],
    optimizers: tuple[optax.GradientTransformation, ...],
    encode: Callable[[jax.Array], jax.Array] | None,
) -> Callable[..., tuple[NoiseState, dict[str, jax.Array]]]:
    """The update without its arrays: of each network whose gradients are matched its module and which weights train."""
    transform = mixture(method.transforms)
    matches = bool(taught) and method.gradient_matching > 0
    undistils = bool(taught) and method.undistillation > 0
    misleads = method.feature_distance > 0

    def authorized_logits(module: Any, trained: Any, frozen: Any, statistics: Any, x: jax.Array) -> jax.Array:
        variables = {"params": {**frozen, **trained}, **statistics}
        return module.apply(variables, x, train=False)

    def feature_loss(module, surrogate, x, x_u, y, aim):
        """L_fd per example, to be minimised; y float [B, K]."""
        if method.feature_loss == "distance":
            phi_x, phi_u = (module.apply(surrogate.variables, z, train=False, method="features") for z in (x, x_u))
            return -feature_cosine(phi_x, phi_u)
        logits = module.apply(surrogate.variables, x_u, train=False)
        if method.feature_loss == "error-max":
            return targeted_error_maximising(logits, y @ aim)
        return error_minimising(logits, y)

    def theta_of(module, trains, trajectory, key):
        """A random snapshot of a network, split into the weights that train, those that do not, and statistics."""
        count = jax.tree.leaves(trajectory)[0].shape[0]
        variables = snapshot(trajectory, jax.random.randint(key, (), 0, count))
        statistics = {name: value for name, value in variables.items() if name != "params"}
        return module, *split_weights(variables["params"], trains), statistics

    def common_loss(encode, x, x_u, y, bound):
        """L_fd per example in the common feature space: away from the original, towards another class."""
        phi_x, phi_u = encode(x), encode(x_u)
        return misalignment(phi_u, bound.prototypes, (y @ bound.aim).argmax(axis=-1)) - feature_cosine(phi_x, phi_u)

    def first_order(delta, x, y, key, states, thetas, bound):
        (x_t, y_t), (x_u, _) = transform(key, x, y), transform(key, x + delta, y)  # the same key: the same transform
        total, losses = jnp.zeros(()), {}
        if misleads:
            pairs = zip(surrogates, states, strict=True)
            each = [feature_loss(module, state, x_t, x_u, y_t, bound.aim).mean() for module, state in pairs]
            if encode is not None:
                each.append(common_loss(encode, x_t, x_u, y_t, bound).mean())
            losses["feature_distance"] = sum(each) / len(each)
            total = total + method.feature_distance * losses["feature_distance"]
        if undistils:
            pairs = [[authorized_logits(*theta, x=z) for z in (x_t, x_u)] for theta in thetas]
            losses["undistillation"] = sum(
                undistillation(logits_x, logits_u, y_t, temperature=method.temperature).mean()
                for logits_x, logits_u in pairs
            )
            total = total - method.undistillation * losses["undistillation"]
        return total, losses

    def loss_of(theta):
        module, trained, frozen, statistics = theta
        return trained, lambda w, x, y: error_minimising(authorized_logits(module, w, frozen, statistics, x), y).mean()

    def clean_gradients(x, y, key, theta):
        trained, loss = loss_of(theta)
        return jax.grad(loss)(trained, *transform(key, x, y))

    def matching(delta, x, y, key, theta, target):
        trained, loss = loss_of(theta)
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

    def update(bound, state, images, labels, order, key):
        def project(delta, x):
            return feasible(delta, x, bound.view, eps=method.eps, norm=method.norm)

        size = min(method.batch_size, order.shape[0])
        position = state.step % max(1, order.shape[0] // size) * size
        index = jax.lax.dynamic_slice(order, (position,), (size,))
        x, y = spread((decode(images[index]), labels[index]))
        shares = jax.nn.one_hot(y, bound.aim.shape[0])
        keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
        snapshot_key, transform_key, train_key, dropout_key = keys
        batch = Batch(x, y, index)

        pairs = zip(taught, bound.trajectories, strict=True)
        thetas = [theta_of(*part, trajectory, snapshot_key) for part, trajectory in pairs]
        targets = [clean_gradients(x, shares, transform_key, theta) for theta in thetas] if matches else []

        how, noise, losses = parametrise(method, x.shape[1:]), state.noise, {}
        delta = project(how.wanted(noise, batch), x)
        for _ in range(method.steps_per_batch):  # few, and unrolled: a loop over convolutions is slow on a CPU
            grad, losses = jax.grad(
                lambda d: first_order(d, x, shares, transform_key, state.surrogates, thetas, bound), has_aux=True
            )(delta)
            if matches:
                pairs = zip(thetas, targets, strict=True)
                values, second = zip(*(matching(delta, x, shares, transform_key, *pair) for pair in pairs), strict=True)
                losses["gradient_matching"] = sum(values)
                grad = grad + method.gradient_matching * sum(second)
            noise = how.moved(noise, batch, delta, grad, lambda wanted: project(wanted, x))
            delta = project(how.wanted(noise, batch), x)

        states = state.surrogates
        if misleads:
            learned = transform(train_key, x + delta if method.feature_loss == "error-min" else x, shares)
            states = tuple(
                train_surrogate(m, o, s, *learned, dropout_key)
                for m, o, s in zip(surrogates, optimizers, states, strict=True)
            )
        return NoiseState(state.step + 1, noise, states), losses

    return update
