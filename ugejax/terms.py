"""Terms of the perturbation's loss: what `ugejax.uge.make_update` sums, and how a new one is written.

A term is a name, a weight and a function. The function gets the clean side of a batch, a `Context`, and returns the
loss as a function of the released images, so that what depends on the clean side alone is computed once a batch::

    def roughness(context):
        def loss(x_u):
            delta = x_u - context.x
            return jnp.square(jnp.diff(delta, axis=1)).mean(axis=(1, 2, 3))
        return loss

    make_update(..., terms=[*terms_of(method), Term("roughness", 0.1, roughness)])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ugejax.losses import (
    error_minimising,
    feature_cosine,
    filter_cosine,
    gradient_matching_to,
    misalignment,
    relative_l2,
    targeted_error_maximising,
    undistillation,
)
from ugejax.perturbations.method import Method
from ugejax.views import BlindSet


@dataclass(frozen=True)
class Network:
    """A network at fixed weights, as functions of images.

    Attributes:
        apply: (weights, x [B, H, W, C]) -> logits [B, K]; with "features" as third argument features [B, D].
        weights: those that train; a pytree.
    """

    apply: Callable[..., jax.Array]
    weights: Any

    def logits(self, x: jax.Array) -> jax.Array:
        """Logits [B, K] of images x [B, H, W, C]."""
        return self.apply(self.weights, x)

    def features(self, x: jax.Array) -> jax.Array:
        """Penultimate features [B, D] of images x [B, H, W, C]."""
        return self.apply(self.weights, x, "features")

    def loss(self, weights: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        """l(f(x; theta), y): the mean cross-entropy of a batch with labels y [B, K] at other weights."""
        return error_minimising(self.apply(weights, x), y).mean()


class CommonSpace(NamedTuple):
    """A feature space common to other networks, such as CLIP's image tower, which does not train.

    Attributes:
        encode: images float [B, H, W, C] in [0, 1] to features [B, F], differentiable.
        prototypes: float32 [K, F], one for each class.
    """

    encode: Callable[[jax.Array], jax.Array]
    prototypes: jax.Array


@dataclass(frozen=True)
class Context:
    """The clean side of a batch: what a term may compare the released images with.

    Attributes:
        x: originals under the transform of this update, float [B, H, W, C]; released images come under the same one.
        y: shares of the classes, float [B, K].
        target: shares of the wrong classes that misalignment aims at, float [B, K].
        authorized: the authorized networks whose gradients are to be matched, each at a random snapshot of its
            trajectory, batch norm in eval mode; none where all of them are blind.
        surrogates: of the networks that train along, at their weights of now, batch norm in eval mode.
        space: a frozen feature space; None without one.
        key: PRNG key for what a term draws.
        averaged: the mean of a pytree over the devices that share the batch; on one device the tree itself.
    """

    x: jax.Array
    y: jax.Array
    target: jax.Array
    authorized: tuple[Network, ...]
    surrogates: tuple[Network, ...]
    space: CommonSpace | None
    key: jax.Array
    averaged: Callable[[Any], Any]


__all__ = [
    "DISTANCES",
    "FEATURE_LOSSES",
    "CommonSpace",
    "Context",
    "FeatureLoss",
    "Network",
    "Term",
    "feature_distance",
    "gradient_matching",
    "matched",
    "terms_of",
    "undistil",
]

Loss = Callable[[jax.Array], jax.Array]  # released images [B, H, W, C] -> a loss of each, [B], or one of the batch, []


@dataclass(frozen=True)
class Term:
    """A summand of the loss that the perturbation descends.

    Attributes:
        name: under which its value is reported.
        weight: its factor; below 0 what is to be maximised. A term of weight 0 is not computed.
        loss: Context -> function of the released images; None where there is nothing to compare, as for gradients of
            authorized networks that are all blind.
        authorized: whether it looks at the authorized networks, whose trajectory is not recorded otherwise.
        surrogates: whether it looks at the surrogates, which do not train otherwise.
    """

    name: str
    weight: float
    loss: Callable[[Context], Loss | None]
    authorized: bool = True
    surrogates: bool = True


DISTANCES = {"l2": relative_l2, "cosine": filter_cosine}


def gradient_matching(weight: float = 1.0, *, distance: str = "l2") -> Term:
    """L_gm: the authorized networks' gradients on x_u are those on x, summed over networks and layers.

    Args:
        weight: w_gm.
        distance: "l2" (relative, per layer) or "cosine" (per filter), see `ugejax.losses`.
    """
    return Term("gradient_matching", weight, _GradientMatching(distance), surrogates=False)


def undistil(weight: float = 1.0, *, temperature: float = 4.0) -> Term:
    """L_ud, to be maximised: what the authorized networks say of x_u beyond the label, summed over networks.

    Args:
        weight: w_ud, at least 0.
        temperature: T of the soft outputs.
    """
    return Term("undistillation", -weight, _Undistillation(temperature), surrogates=False)


def feature_distance(weight: float = 1.0, *, kind: str = "error-min") -> Term:
    """L_fd: other networks learn the wrong thing from x_u; the mean over surrogates and the common feature space.

    Args:
        weight: w_fd.
        kind: a name in `FEATURE_LOSSES`.
    """
    return Term("feature_distance", weight, _FeatureDistance(kind), authorized=False)


def terms_of(method: Method) -> tuple[Term, ...]:
    """The terms of a method's settings."""
    return (
        feature_distance(method.feature_distance, kind=method.feature_loss),
        undistil(method.undistillation, temperature=method.temperature),
        gradient_matching(method.gradient_matching, distance=method.gradient_distance),
    )


def matched(view: BlindSet, method: Method, terms: Sequence[Term] | None = None) -> bool:
    """Whether a term looks at what a network behind this view learns, which an exactly blind one makes pointless."""
    terms = terms_of(method) if terms is None else terms
    return not view.blind and any(term.authorized and term.weight for term in terms)


@dataclass(frozen=True)
class _GradientMatching:
    distance: str

    def __call__(self, context: Context) -> Loss | None:
        if not context.authorized:
            return None
        losses = []
        for network in context.authorized:
            target = context.averaged(jax.grad(network.loss)(network.weights, context.x, context.y))
            losses.append(
                gradient_matching_to(
                    target, network.loss, network.weights, context.y, distance=DISTANCES[self.distance],
                    averaged=context.averaged,
                )
            )  # fmt: skip
        return lambda x_u: sum((loss(x_u) for loss in losses), jnp.zeros(()))


@dataclass(frozen=True)
class _Undistillation:
    temperature: float

    def __call__(self, context: Context) -> Loss | None:
        if not context.authorized:
            return None
        clean = [network.logits(context.x) for network in context.authorized]

        def loss(x_u):
            pairs = zip(context.authorized, clean, strict=True)
            each = (
                undistillation(logits_x, network.logits(x_u), context.y, temperature=self.temperature)
                for network, logits_x in pairs
            )
            return sum(each, jnp.zeros(len(x_u)))

        return loss


@dataclass(frozen=True)
class FeatureLoss:
    """A kind of L_fd.

    Attributes:
        of: (Context, surrogate) -> function of the released images, a loss of each to be minimised.
        learns: the images that surrogates train on, "protected" or "clean".
    """

    of: Callable[[Context, Network], Loss]
    learns: str


def _error_minimising(context: Context, surrogate: Network) -> Loss:
    return lambda x_u: error_minimising(surrogate.logits(x_u), context.y)


def _targeted_error_maximising(context: Context, surrogate: Network) -> Loss:
    return lambda x_u: targeted_error_maximising(surrogate.logits(x_u), context.target)


def _distance(context: Context, surrogate: Network) -> Loss:
    phi_x = surrogate.features(context.x)
    return lambda x_u: -feature_cosine(phi_x, surrogate.features(x_u))


FEATURE_LOSSES = {
    "error-min": FeatureLoss(_error_minimising, "protected"),
    "error-max": FeatureLoss(_targeted_error_maximising, "clean"),
    "distance": FeatureLoss(_distance, "clean"),
}


@dataclass(frozen=True)
class _FeatureDistance:
    kind: str

    def __call__(self, context: Context) -> Loss | None:
        losses = [FEATURE_LOSSES[self.kind].of(context, surrogate) for surrogate in context.surrogates]
        if context.space is not None:
            losses.append(_in_common_space(context, context.space))
        if not losses:
            return None
        return lambda x_u: sum((loss(x_u).mean() for loss in losses), jnp.zeros(())) / len(losses)


def _in_common_space(context: Context, space: CommonSpace) -> Loss:
    """Away from the original, and towards another class."""
    phi_x, wrong = space.encode(context.x), context.target.argmax(axis=-1)

    def loss(x_u):
        phi_u = space.encode(x_u)
        return misalignment(phi_u, space.prototypes, wrong) - feature_cosine(phi_x, phi_u)

    return loss
