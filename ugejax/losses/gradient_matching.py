"""Gradient matching: x + delta should teach the authorized network what x teaches it.

Source: UnGeneralizable Examples (Ye & Wang, CVPR 2024, arXiv 2404.14016), whose summaries give the sum below, taken
along the authorized network's training trajectory theta_0 ... theta_T::

    L_gm(delta; theta_t) = sum over layers of D(grad_theta l(f(x; theta_t), y), grad_theta l(f(x + delta; theta_t), y))

They do not give D; both distances here are our choice. A "layer" is one array of ``params``, which holds the weights
that train and nothing else. With batch norm in train mode the examples of a batch are coupled: gradients are then
those of the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ugejax.losses._cosine import one_minus_cosine

PyTree = Any
LossFn = Callable[[PyTree, jax.Array, jax.Array], jax.Array]
DistanceFn = Callable[[PyTree, PyTree], PyTree]

# Added to |g|^2 so that a layer whose clean gradient vanishes (dead units, an absent class) has a finite distance.
TINY_SQUARED_NORM = 1e-12


def relative_l2(grads: PyTree, target: PyTree) -> PyTree:
    """Squared distance of two gradients relative to the clean one, per layer.

    ``D(g, g_u) = |g_u - g|^2 / (|g|^2 + tiny)``, tiny = 1e-12: 0 where equal, 1 where g_u = 0, 4 where g_u = -g. Our
    choice of D.

    Args:
      grads: gradients on released images, g_u; a pytree of float arrays.
      target: gradients on the originals, g; the same structure and shapes.

    Returns:
      A pytree of the same structure with one scalar per array.
    """

    def layer(g_u: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(g_u - g)) / (jnp.sum(jnp.square(g)) + TINY_SQUARED_NORM)

    return jax.tree.map(layer, grads, target)


def filter_cosine(grads: PyTree, target: PyTree) -> PyTree:
    """Cosine distance of two gradients, averaged over a layer's filters.

    ``D(g, g_u) = mean over filters j of 1 - <g[..., j], g_u[..., j]> / (|g[..., j]| |g_u[..., j]|)``. A filter is what
    feeds one output unit: the last axis of a kernel. An array of fewer than two axes (bias, scale) counts as one
    vector. The distance of Zhao, Mopuri and Bilen (Dataset Condensation with Gradient Matching, ICLR 2021, arXiv
    2006.05929), with a mean for their sum so that wide layers do not outweigh narrow ones; its use here is our choice.

    A filter whose gradient is zero on both sides is at distance 0; on one side, at distance 1 with zero gradient.

    Args:
      grads: gradients on released images, g_u; a pytree of float arrays.
      target: gradients on the originals, g; the same structure and shapes.

    Returns:
      A pytree of the same structure with one scalar in [0, 2] per array.
    """

    def layer(g_u: jax.Array, g: jax.Array) -> jax.Array:
        filters = g.shape[-1] if g.ndim >= 2 else 1
        return jnp.mean(one_minus_cosine(g_u.reshape(-1, filters), g.reshape(-1, filters), axis=0))

    return jax.tree.map(layer, grads, target)


def gradient_matching(
    loss_fn: LossFn, params: PyTree, x: jax.Array, x_u: jax.Array, y: jax.Array, *, distance: DistanceFn
) -> PyTree:
    """Gradient matching over a whole batch, ``D(grad_theta l(f(x; theta), y), grad_theta l(f(x_u; theta), y))``.

    Differentiable in everything. For the derivative with respect to ``x_u`` alone, `gradient_matching_and_grad` gives
    the same numbers faster.

    Args:
      loss_fn: ``(params, x, y) -> scalar``, the mean loss of a batch.
      params: theta, the weights that train; a pytree of float arrays.
      x: originals, float [B, H, W, C] in [0, 1].
      x_u: released images, shaped like x.
      y: labels, int [B].
      distance: D, of released then clean gradients: `relative_l2`, `filter_cosine` or the like.

    Returns:
      A pytree like ``params`` with one scalar per array; L_gm is their sum.
    """
    grad_fn = jax.grad(loss_fn)
    return distance(grad_fn(params, x_u, y), grad_fn(params, x, y))


def gradient_matching_and_grad(
    loss_fn: LossFn,
    params: PyTree,
    x_u: jax.Array,
    y: jax.Array,
    target_grads: PyTree,
    *,
    distance: DistanceFn,
    averaged: Callable[[PyTree], PyTree] = lambda grads: grads,
) -> tuple[PyTree, jax.Array]:
    """Gradient matching to known clean gradients, and the derivative of its sum over layers with respect to ``x_u``.

    Forward over reverse. With g = grad_theta l(f(x_u; theta), y) and v = dD/dg, the chain rule gives
    ``d sum(D) / d x_u = v . d(grad_theta l)/d x_u``, which is the derivative of ``grad_x l`` along v in theta. Exact,
    and 1.8 to 5 times faster on CPU than the gradient of a gradient.

    The clean gradients depend on theta and the batch only: compute them once, ``jax.grad(loss_fn)(params, x, y)``, for
    several updates of delta.

    Args:
      loss_fn: ``(params, x, y) -> scalar``, the mean loss of a batch.
      params: theta, the weights that train; a pytree of float arrays.
      x_u: released images, float [B, H, W, C] in [0, 1].
      y: labels, int [B].
      target_grads: clean gradients, a pytree like ``params``.
      distance: D, of released then clean gradients.
      averaged: the mean of gradients over the devices among which a batch is shared out, by ``jax.lax.pmean``; the
        derivative is then that of the value times the number of devices, as is that of a mean over a device's images.

    Returns:
      The value per layer (a pytree like ``params`` of scalars), and the derivative, shaped like x_u.
    """
    grads = averaged(jax.grad(loss_fn)(params, x_u, y))
    values, pull_back = jax.vjp(lambda g: distance(g, target_grads), grads)
    (direction,) = pull_back(jax.tree.map(jnp.ones_like, values))
    _, dx = jax.jvp(lambda p: jax.grad(loss_fn, argnums=1)(p, x_u, y), (params,), (direction,))
    return values, dx


def gradient_matching_to(
    target_grads: PyTree,
    loss_fn: LossFn,
    params: PyTree,
    y: jax.Array,
    *,
    distance: DistanceFn,
    averaged: Callable[[PyTree], PyTree] = lambda grads: grads,
) -> Callable[[jax.Array], jax.Array]:
    """L_gm to known clean gradients as a function of ``x_u``, whose first derivative is taken forward over reverse.

    For arguments and derivative see `gradient_matching_and_grad`.

    Returns:
      ``x_u -> scalar``, the sum over layers. Differentiable in x_u alone, once.
    """

    def value_and_grad(x_u: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, dx = gradient_matching_and_grad(
            loss_fn, params, x_u, y, target_grads, distance=distance, averaged=averaged
        )
        return sum(jax.tree.leaves(values), jnp.zeros(())), dx

    @jax.custom_vjp
    def loss(x_u: jax.Array) -> jax.Array:
        return sum(jax.tree.leaves(distance(averaged(jax.grad(loss_fn)(params, x_u, y)), target_grads)), jnp.zeros(()))

    loss.defvjp(value_and_grad, lambda dx, of_value: (of_value * dx,))
    return loss
