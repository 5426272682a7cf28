"""A hacker who looks near the weights that the release taught for some that know the picture, with few originals.

Wang et al., "Provably Unlearnable Data Examples", NDSS 2025 (arXiv 2405.03316), ask how well a classifier within a ball
around the trained weights can do, and recover the task by training a little on clean images within it. Taken over is
that: the recipe's own training on the originals that he holds, the weights projected into an l2 ball after each step.
Their certificate, and noise on the weights while the perturbation is made, were not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

RADIUS = 0.1  # of the ball, as a share of the norm of all trained weights: our choice


class _Near(NamedTuple):
    inner: Any
    start: Any


def near(optimizer: optax.GradientTransformation, *, radius: float = RADIUS) -> optax.GradientTransformation:
    """The optimizer, its weights projected after each step into the l2 ball around those that it began with.

    Args:
        optimizer: what steps.
        radius: of the ball, as a share of the norm of all weights together.
    """

    def init(params):
        return _Near(optimizer.init(params), jax.tree.map(jnp.array, params))

    def update(updates, state, params=None):
        assert params is not None, "they are projected"
        updates, inner = optimizer.update(updates, state.inner, params)
        way = optax.tree.sub(optax.apply_updates(params, updates), state.start)
        way = optax.projections.projection_l2_ball(way, radius * optax.tree.norm(state.start))
        return optax.tree.sub(optax.tree.add(state.start, way), params), _Near(inner, state.start)

    return optax.GradientTransformation(init, update)
