"""UnGeneralizable Examples: the whole method on one page, pure functions of arrays and PRNG keys.

Originals x become released images x_u = x + delta, delta in the feasible set F(x), that descend the sum of terms

    L(delta) = w_gm L_gm(delta; theta_t) + w_fd L_fd(delta) - w_ud L_ud(delta)

    L_gm = sum over layers of D(grad_theta l(f(x; theta_t), y), grad_theta l(f(x_u; theta_t), y))   gradient matching
    L_fd = what networks that train along learn from x_u, or the distance of features               feature distance
    L_ud = KL(q(x) || q(x_u)), q the authorized network's soft outputs beyond the label              undistillation

theta_t is a random snapshot of the trajectory theta_0 ... theta_T that the authorized network f takes on the originals;
with several authorized networks L_gm and L_ud are summed over them. Where f is exactly blind to every delta in F(x),
L_gm is 0 and L_ud constant whatever theta, and neither is computed. Random transforms of images and labels lie inside.

    trajectory      theta_0 ... theta_T, recorded while the authorized network trains
    make_update     (state, batch, key) -> (state, losses): steps of delta down L, and a step of the surrogates
    release_batch   the feasible perturbation of a batch, rounded to 8 bits
    protect         all of it in a row

Source: Ye & Wang, Ungeneralizable Examples, CVPR 2024 (arXiv 2404.14016), which published no code; what it does not
give is our choice and said to be so where it is written out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from ugejax.authorized.network import AuthorizedNetwork, seen, split_weights
from ugejax.batches import at_a_time
from ugejax.compiler import compiled, kept
from ugejax.constraints.feasible import feasible
from ugejax.constraints.rounding import round_within
from ugejax.parallel import averaged, of_shard
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import NoiseState, initial_noise, parametrise
from ugejax.perturbations.start import class_means, nearest_wrong_class
from ugejax.terms import FEATURE_LOSSES, CommonSpace, Context, Network, Term, matched, terms_of
from ugejax.training.loop import epoch_order, on_resident, run_steps
from ugejax.training.prepare import prepared
from ugejax.training.recipe import Recipe
from ugejax.training.step import Batch, decode, freeze, initial_state, make_train_step
from ugejax.training.trajectory import record_trajectory, snapshot
from ugejax.transforms import mixture
from ugejax.views import BlindSet, shared_blind_set


def trajectory(
    network: AuthorizedNetwork,
    recipe: Recipe,
    images: Any,
    labels: jax.Array,
    key: jax.Array,
    *,
    snapshots: int,
    **options: Any,
) -> Any:
    """The trajectory theta_0 ... theta_T of an authorized network that trains on originals, stacked.

    Args:
        network: the network; it trains on what its view shows of the images.
        recipe: how it is trained.
        images: originals, uint8 or float [N, H, W, C]; a stream is read batch by batch.
        labels: int32 [N].
        key: PRNG key of order and augmentation.
        snapshots: T + 1.
        options: where snapshots are kept if not in memory, and who is told, see `record_trajectory`.
    """
    optimizer = freeze(recipe.build_optimizer(len(images)), network.trains)
    step = make_train_step(network.module, optimizer, recipe, train_mode=network.trains == "all")
    if network.view.hides:
        images = jnp.asarray(seen(network.view, images))
    state = initial_state(prepared(network.module, network.variables, images), optimizer)
    return record_trajectory(step, state, images, labels, recipe, key, snapshots=snapshots, **options)


def make_update(
    method: Method,
    network: AuthorizedNetwork,
    trajectory: Any,
    surrogates: Sequence[Any],
    optimizers: Sequence[optax.GradientTransformation],
    wrong: jax.Array,
    *,
    terms: Sequence[Term] | None = None,
    others: Sequence[tuple[AuthorizedNetwork, Any]] = (),
    space: CommonSpace | None = None,
    axis_name: str | None = None,
) -> Partial:
    """Build the update.

    Args:
        method: settings.
        network: the authorized network.
        trajectory: its variables with a leading axis over the snapshots; None where its view is blind.
        surrogates: the networks of the feature distance, modules of Flax or `ugejax.networks.Functional`.
        optimizers: one for each surrogate.
        wrong: int32 [K], the wrong class that misalignment aims at, for each class.
        terms: summands of the loss; None takes those of the method.
        others: further authorized networks, each with its trajectory or None.
        space: a frozen feature space that the feature distance is measured in as well.
        axis_name: of the axis of `jax.pmap` or `jax.vmap` over whose shards of a batch everything is averaged; each
            shard draws transforms of its own.

    Returns:
        update(state, batch, key) -> (state, losses): the steps on a `Batch` with labels int32 [B], and the losses at
        the last of them; the PRNG key is folded with the state's step. Pure, for jit, vmap over keys and pmap. The
        secret view and the trajectories are bound as arguments of the `jax.tree_util.Partial`: whoever jits a function
        of it gives them to the compiled program, in which a closure would make them constants. Batch norm of the
        authorized network runs in eval mode, on the snapshot's statistics, so that examples do not mix.
    """
    networks = ((network, trajectory), *others)
    taught = [(network, trajectory) for network, trajectory in networks if trajectory is not None]
    bound = (  # arguments of the compiled program
        shared_blind_set([network.view for network, _ in networks]),
        [(network.view, trajectory) for network, trajectory in taught],
        jax.nn.one_hot(wrong, wrong.shape[0]),  # y @ this gives each class's share to its wrong class
        None if space is None else space.prototypes,
    )
    parts = tuple((network.module, network.trains) for network, _ in taught)
    terms = tuple(term for term in (terms_of(method) if terms is None else terms) if term.weight)
    if len(names := [term.name for term in terms]) > len(set(names)):
        raise ValueError(f"terms: each has a name of its own, and these are {names}")
    encode = None if space is None else space.encode
    return Partial(_update(method, terms, parts, tuple(surrogates), tuple(optimizers), encode, axis_name), bound)


@kept
def _update(
    method: Method,
    terms: tuple[Term, ...],
    taught: tuple[tuple[Any, str], ...],
    surrogates: tuple[Any, ...],
    optimizers: tuple[optax.GradientTransformation, ...],
    encode: Callable[[jax.Array], jax.Array] | None,
    axis_name: str | None,
) -> Callable[..., tuple[NoiseState, dict[str, jax.Array]]]:
    """The update without its arrays: of each network whose gradients are matched its module and which weights train."""
    transform = mixture(method.transforms)
    looks_at_surrogates = any(term.surrogates for term in terms)
    trainings = [
        make_train_step(module, optimizer, Recipe(), axis_name=axis_name)
        for module, optimizer in zip(surrogates, optimizers, strict=True)
    ]

    def authorized(part, own, key):
        """A network at a random snapshot of its trajectory."""
        (module, trains), (view, trajectory) = part, own
        count = jax.tree.leaves(trajectory)[0].shape[0]
        variables = snapshot(trajectory, jax.random.randint(key, (), 0, count))
        trained, frozen = split_weights(variables["params"], trains)

        def apply(weights, x, of=None):
            all_variables = {**variables, "params": {**frozen, **weights}}
            return module.apply(all_variables, view.apply(x), train=False, method=of)

        return Network(apply, trained)

    def surrogate(module, state):
        return Network(lambda weights, x, of=None: module.apply(weights, x, train=False, method=of), state.variables)

    def update(bound, state, batch, key):
        chex.assert_rank([batch.x, batch.y], [4, 1])
        chex.assert_equal_shape_prefix([batch.x, batch.y], 1)
        view, networks, aim, prototypes = bound
        x, y = decode(batch.x), jax.nn.one_hot(batch.y, len(aim))
        batch = Batch(x, batch.y, batch.index)
        snapshot_key, *keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
        transform_key, train_key, dropout_key = (of_shard(key, axis_name) for key in keys)

        # The clean side: what x, the snapshot and the surrogates of now decide, for all steps of delta.
        x_t, y_t = transform(transform_key, x, y)
        context = Context(
            x_t, y_t, y_t @ aim,
            authorized=tuple(authorized(*pair, snapshot_key) for pair in zip(taught, networks, strict=True)),
            surrogates=tuple(map(surrogate, surrogates, state.surrogates)),
            space=None if encode is None else CommonSpace(encode, prototypes),
            key=jax.random.fold_in(transform_key, len(keys)),
            averaged=lambda tree: averaged(tree, axis_name),
        )  # fmt: skip
        losses_of = [(term, loss) for term in terms if (loss := term.loss(context)) is not None]

        def total(delta):
            x_u, _ = transform(transform_key, x + delta, y)  # the same key: the same transform
            losses = {term.name: loss(x_u).mean() for term, loss in losses_of}
            return sum((term.weight * losses[term.name] for term, _ in losses_of), jnp.zeros(())), losses

        # Steps of delta, straight through the projection: the gradient at the feasible delta moves what is behind it.
        def project(delta):
            return feasible(delta, x, view, eps=method.eps, norm=method.norm)

        how, noise, losses = parametrise(method, x.shape[1:]), state.noise, {}
        delta = project(how.wanted(noise, batch))
        for _ in range(method.steps_per_batch):  # few, and unrolled: a loop over convolutions is slow on a CPU
            grad, losses = jax.grad(total, has_aux=True)(delta)
            noise = how.moved(noise, batch, delta, grad, project, axis_name)
            delta = project(how.wanted(noise, batch))

        states = state.surrogates
        if looks_at_surrogates:
            protected = FEATURE_LOSSES[method.feature_loss].learns == "protected"
            learned = transform(train_key, x + delta if protected else x, y)
            states = tuple(
                train(state, Batch(*learned), dropout_key)[0] for train, state in zip(trainings, states, strict=True)
            )
        return NoiseState(state.step + 1, noise, states), averaged(losses, axis_name)

    return update


def release_batch(
    method: Method, view: BlindSet, wanted: jax.Array, images: jax.Array, index: jax.Array, key: jax.Array
) -> jax.Array:
    """The released images x_u of a batch, each by itself.

    Args:
        method: settings.
        view: the authorized network's view, or what several of them are blind to, see `shared_blind_set`.
        wanted: perturbations float [B, H, W, C] by a parametrisation, not yet feasible.
        images: originals, uint8 [B, H, W, C].
        index: int32 [B], the images' places in the data set.
        key: secret PRNG key of the rounding at random, which each image's index is folded into.

    Returns:
        uint8 [B, H, W, C].
    """
    delta = feasible(wanted, decode(images), view, eps=method.eps, norm=method.norm)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return round_within(keys, images, delta, view, eps=method.eps, norm=method.norm)


@dataclass(frozen=True)
class Config:
    """What `protect` does.

    Attributes:
        method: settings of the perturbation.
        networks: the authorized networks, one or several.
        recipe: how they are trained, for their trajectories.
        start: classes' textures, float32 [K, H, W, C] in units of [0, 1], such as `class_stripes`.
        surrogates: networks of the feature distance, each with its optimizer.
        terms: summands of the loss; None takes those of the method.
        space: a frozen feature space that the feature distance is measured in as well.
        secret: from which codes and their places follow, where the method has any.
    """

    method: Method
    networks: tuple[AuthorizedNetwork, ...]
    recipe: Recipe
    start: jax.Array
    surrogates: tuple[tuple[Any, optax.GradientTransformation], ...] = ()
    terms: tuple[Term, ...] | None = None
    space: CommonSpace | None = None
    secret: bytes = b""


def protect(key: jax.Array, x: jax.Array, y: jax.Array, config: Config) -> tuple[jax.Array, NoiseState]:
    """Released images x_u of originals, and the state that they were made from.

    Args:
        key: secret PRNG key of everything random.
        x: originals, uint8 [N, H, W, C].
        y: labels, int32 [N] in [0, K).
        config: what is done.

    Returns:
        (uint8 [N, H, W, C], state).
    """
    method, n, space = config.method, len(x), config.space
    key, training_key, rounding_key = jax.random.split(key, 3)
    trajectories = [
        trajectory(network, config.recipe, x, y, training_key, snapshots=method.snapshots)
        if matched(network.view, method, config.terms) else None
        for network in config.networks
    ]  # fmt: skip
    (network, first), *others = zip(config.networks, trajectories, strict=True)
    modules, optimizers = tuple(zip(*config.surrogates, strict=True)) or ((), ())
    means = class_means(np.asarray(x), np.asarray(y), len(config.start))
    wrong = nearest_wrong_class(means if space is None else np.asarray(space.prototypes))
    update = make_update(
        method, network, first, modules, optimizers, jnp.asarray(wrong), terms=config.terms, others=others, space=space
    )
    state = initial_noise(key, method, config.start, x, y, modules, optimizers, config.secret)
    size, order_key = at_a_time(x.shape[1:], most=min(method.batch_size, n)), jax.random.fold_in(key, 1)
    run = run_steps(on_resident(update, size))
    for epoch in range(method.epochs):
        state, _ = run(state, x, y, epoch_order(order_key, epoch, n), order_key, n // size)

    view = shared_blind_set([network.view for network in config.networks])
    how = parametrise(method, x.shape[1:])

    @compiled
    def released(view, noise, key, x, y, index):
        return release_batch(method, view, how.wanted(noise, Batch(decode(x), y, index)), x, index, key)

    size = at_a_time(x.shape[1:], most=n)
    pieces = [slice(i, i + size) for i in range(0, n, size)]
    parts = [released(view, state.noise, rounding_key, x[i], y[i], jnp.arange(n)[i]) for i in pieces]
    return jnp.concatenate(parts), state
