"""The feasible set of a perturbation: budget, valid images and the blind set of the authorized network, all at once.

    F(x) = {delta : ||delta|| <= eps} and {x + delta in [0, 1]} and {v(x + delta) = v(x)}

Leaks decide whether the authorized network stays blind: what clipping or rounding adds outside the blind set is
learned as readily as any other signal. So a perturbation is never clipped after it was made blind; it is brought
into all sets together by alternating projections, and what is left over is removed by shrinking, which stays in
every set.

Beside a subspace the projections come close to the box and never quite into it. A value that is black or white in the
original may not move one way at all, so that shrinking by the last hundredth of a grey level would take the whole patch
away. There a quarter of a level is left to the rounding to 8 bits, which keeps to the bounds.
"""

import jax
import jax.numpy as jnp

from ugejax.constraints.budget import project_l2
from ugejax.patches import patchify, unpatchify
from ugejax.views import BlindSet

TOLERANCE = 0.25 / 255  # a quarter of a grey level


def allowed(x: jax.Array, view: BlindSet, *, eps: float, norm: str = "linf") -> tuple[jax.Array, jax.Array]:
    """Elementwise bounds (lower <= 0 <= upper) of delta for originals x, float [..., H, W, C] in [0, 1].

    They join the box [-x, 1 - x], the view's own bounds and, for norm "linf", [-eps, eps].
    """
    lower, upper = view.bounds(x)
    radius = eps if norm == "linf" else 1.0
    return jnp.maximum(jnp.maximum(lower, -x), -radius), jnp.minimum(jnp.minimum(upper, 1 - x), radius)


def feasible(
    delta: jax.Array, x: jax.Array, view: BlindSet, *, eps: float, norm: str = "linf", iterations: int = 20
) -> jax.Array:
    """A point of F(x) close to delta.

    Args:
        delta: float [..., H, W, C] in units of [0, 1].
        x: originals, float [..., H, W, C] in [0, 1].
        view: the frozen secret part of the authorized network, or what several of them are blind to.
        eps: budget in units of [0, 1].
        norm: "linf" or "l2" (per image).
        iterations: alternating projections between the box and the blind subspace, where there is a subspace.

    Returns:
        Shaped like x. Within the bounds and, where the view has a subspace, in it up to float rounding; beside a
        subspace, bounds nearer to 0 than a quarter of a grey level count as that.
    """
    lower, upper = allowed(x, view, eps=eps, norm=norm)
    if view.patch is None:
        delta = jnp.clip(delta, lower, upper)
    else:

        def alternate(_, delta):
            return view.project(jnp.clip(delta, lower, upper), x)

        delta = jax.lax.fori_loop(0, iterations, alternate, delta)
        delta = _shrink(delta, jnp.minimum(lower, -TOLERANCE), jnp.maximum(upper, TOLERANCE), view.patch)
    return project_l2(delta, eps) if norm == "l2" else delta


def _shrink(delta: jax.Array, lower: jax.Array, upper: jax.Array, patch: int) -> jax.Array:
    """Scale each patch by the largest factor in [0, 1] that brings it within the bounds: no subspace is left."""
    beyond = (delta > upper) | (delta < lower)
    bound = jnp.where(delta > 0, upper, lower)
    factor = jnp.where(beyond, bound / jnp.where(beyond, delta, 1), 1)
    factor = patchify(jnp.broadcast_to(factor, delta.shape), patch).min(axis=-1, keepdims=True)
    h, w, c = delta.shape[-3:]
    return unpatchify(patchify(delta, patch) * factor, patch, (h, w, c))
