"""Gradient matching: worked constants, exact derivatives, and behaviour where gradients vanish."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.losses import (
    error_minimising,
    filter_cosine,
    gradient_matching,
    gradient_matching_and_grad,
    gradient_matching_to,
    relative_l2,
)

NUM_CLASSES = 3
DISTANCES = [relative_l2, filter_cosine]


class Problem(NamedTuple):
    params: dict[str, jax.Array]
    x: jax.Array
    x_u: jax.Array
    y: jax.Array


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def loss_fn(params, x, y):
    """Mean cross-entropy of a smooth two-layer network."""
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ params["kernel_1"] + params["bias_1"])
    return jnp.mean(error_minimising(hidden @ params["kernel_2"], y))


def total(tree) -> jax.Array:
    return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))


@partial(jax.jit, static_argnames="distance")
def distance_and_grads(grads, target, *, distance):
    return jax.value_and_grad(lambda g, t: total(distance(g, t)), argnums=(0, 1))(grads, target)


clean_grads = jax.jit(jax.grad(loss_fn))
match = jax.jit(partial(gradient_matching, loss_fn), static_argnames="distance")
match_and_grad = jax.jit(partial(gradient_matching_and_grad, loss_fn), static_argnames="distance")


def make_problem(seed: int = 0) -> Problem:
    """Six 4 x 4 x 3 images of classes 0 and 2 (class 1 is absent) and a network, in the precision now switched on."""
    rng = np.random.default_rng(seed)
    params = {
        "kernel_1": jnp.asarray(rng.normal(0, 0.3, (48, 7))),
        "bias_1": jnp.asarray(rng.normal(0, 0.3, 7)),
        "kernel_2": jnp.asarray(rng.normal(0, 0.3, (7, NUM_CLASSES))),
    }
    x = rng.uniform(size=(6, 4, 4, 3))
    x_u = x + rng.normal(0, 0.1, x.shape)
    return Problem(params, jnp.asarray(x), jnp.asarray(x_u), jnp.array([0, 2, 2, 0, 2, 2]))


def central_difference(fn, x, direction, step=1e-5):
    return (fn(x + step * direction) - fn(x - step * direction)) / (2 * step)


def all_finite(tree) -> bool:
    return all(bool(np.all(np.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


def test_relative_l2_worked_constants():
    target = {"a": np.array([3.0, 4.0]), "b": np.array([[2.0]])}
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[-2.0]])}
    distances = jax.jit(relative_l2)(grads, target)
    np.testing.assert_allclose(distances["a"], 16 / 25, rtol=1e-6)
    np.testing.assert_allclose(distances["b"], 4.0, rtol=1e-6)
    assert all(value == 0 for value in relative_l2(target, target).values())


def test_filter_cosine_worked_constants():
    # Columns are the filters: the first is orthogonal (1), the second opposed (2), the third merely longer (0).
    target = {"kernel": np.array([[1.0, 1.0, 2.0], [0.0, 1.0, 1.0]]), "bias": np.array([1.0, 0.0])}
    grads = {"kernel": np.array([[0.0, -3.0, 4.0], [5.0, -3.0, 2.0]]), "bias": np.array([1.0, 1.0])}
    distances = jax.jit(filter_cosine)(grads, target)
    np.testing.assert_allclose(distances["kernel"], (1 + 2 + 0) / 3, rtol=1e-6)
    np.testing.assert_allclose(distances["bias"], 1 - 1 / np.sqrt(2), rtol=1e-6)


def test_filter_cosine_of_a_convolution_takes_the_last_axis_as_filters():
    kernel, other = np.random.default_rng(0).normal(size=(2, 3, 3, 4, 5)).astype(np.float32)
    expected = [
        1 - np.vdot(kernel[..., j], other[..., j]) / (np.linalg.norm(kernel[..., j]) * np.linalg.norm(other[..., j]))
        for j in range(5)
    ]
    np.testing.assert_allclose(jax.jit(filter_cosine)(kernel, other), np.mean(expected), rtol=1e-5)
    scaled = kernel * np.array([1e-4, 1.0, 7.0, 30.0, 1e4])
    np.testing.assert_allclose(jax.jit(filter_cosine)(scaled, kernel), 0, atol=1e-6)


def test_filter_cosine_counts_dead_filters():
    # Dead on both sides 0, on one side 1, alive and equal 0.
    target = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    grads = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(jax.jit(filter_cosine)(grads, target), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("grads_scale", [0.0, 1e-9, 1.0])
@pytest.mark.parametrize("target_scale", [0.0, 1e-9, 1.0])
def test_distances_and_their_gradients_are_finite_at_zero(distance, grads_scale, target_scale):
    base = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    grads, target = {"k": grads_scale * base}, {"k": target_scale * base[::-1]}
    assert all_finite(distance_and_grads(grads, target, distance=distance))


@pytest.mark.parametrize("distance", DISTANCES)
def test_derivative_in_the_images_agrees_with_finite_differences(x64, distance):
    params, x, x_u, y = make_problem()
    direction = np.random.default_rng(9).normal(size=x.shape)

    @jax.jit
    def value(images):
        return total(match(params, x, images, y, distance=distance))

    measured = central_difference(value, x_u, direction)
    np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(value))(x_u), direction), measured, rtol=1e-7)


@pytest.mark.parametrize("distance", DISTANCES)
def test_forward_over_reverse_equals_the_gradient_of_a_gradient(x64, distance):
    params, x, x_u, y = make_problem()
    target = clean_grads(params, x, y)

    @jax.jit
    def value(images):
        return total(match(params, x, images, y, distance=distance))

    values, dx = match_and_grad(params, x_u, y, target, distance=distance)
    assert values.keys() == params.keys()
    np.testing.assert_allclose(sum(map(np.sum, values.values())), value(x_u), rtol=1e-12)
    np.testing.assert_allclose(dx, jax.jit(jax.grad(value))(x_u), rtol=0, atol=1e-9 * np.max(np.abs(dx)))
    assert np.max(np.abs(dx)) > 1e-3
    loss = gradient_matching_to(target, loss_fn, params, y, distance=distance)
    thrice, dx_of_thrice = jax.jit(jax.value_and_grad(lambda images: 3 * loss(images)))(x_u)
    np.testing.assert_allclose(thrice, 3 * value(x_u), rtol=1e-12)
    np.testing.assert_allclose(dx_of_thrice, 3 * dx, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(loss)(x_u), value(x_u), rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_nothing_moves_at_delta_zero(distance):
    params, x, _, y = make_problem()
    target = clean_grads(params, x, y)
    values, dx = match_and_grad(params, x, y, target, distance=distance)
    np.testing.assert_allclose(sum(map(np.sum, values.values())), 0, atol=1e-9)
    np.testing.assert_allclose(dx, 0, atol=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
def test_dead_network_gives_finite_derivatives(distance):
    """With every weight zero the gradient of the first layer vanishes on both sides."""
    params, x, x_u, y = make_problem()
    params = jax.tree.map(np.zeros_like, params)
    target = clean_grads(params, x, y)
    assert not np.any(target["kernel_1"])
    values, dx = match_and_grad(params, x_u, y, target, distance=distance)
    assert all_finite((values, dx))
