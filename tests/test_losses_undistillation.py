"""Undistillation: the divergence beyond the label, also where the teacher is certain."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugejax import losses

# One program in place of one for each operation; `test_variants` has the same without.
undistillation = jax.jit(losses.undistillation, static_argnames="temperature")
LABELS = np.array([0, 2, 3])


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def logits_pair():
    return np.random.default_rng(0).normal(size=(2, 3, 5))


@jax.jit
def kl_divergence(of: jax.Array, targets: jax.Array) -> jax.Array:
    """Optax's, of logits."""
    return optax.losses.kl_divergence(jax.nn.log_softmax(of), jax.nn.softmax(targets))


def test_worked_constant():
    # Beyond label 0: q(x) = (1/2, 1/2) and q(x_u) = (1/4, 3/4); KL = log 2 - (log 3) / 2.
    logits_x = np.array([[9.0, 1.0, 1.0]])
    logits_u = np.array([[-4.0, 0.0, 2 * np.log(3.0)]])
    value = undistillation(logits_x, logits_u, np.array([0]), temperature=2.0)
    np.testing.assert_allclose(value, [np.log(2) - np.log(3) / 2], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_agrees_with_optax_on_the_logits_without_the_label(temperature):
    logits_x, logits_u = logits_pair()
    others = np.array([[k for k in range(5) if k != label] for label in LABELS])
    kept_x, kept_u = (np.take_along_axis(np.asarray(z), others, axis=1) / temperature for z in (logits_x, logits_u))
    expected = kl_divergence(kept_u, kept_x)
    np.testing.assert_allclose(
        undistillation(logits_x, logits_u, LABELS, temperature=temperature), expected, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("difference", [1e-3, 1e-1, 0.9, 1.1, 30.0])
def test_nearly_equal_answers_lose_nothing_in_float32(difference):
    """Against the sum of p log(p / q) in float64, whose own rounding is below the tolerance."""
    logits_x, towards = np.random.default_rng(1).normal(size=(2, 64, 10)).astype(np.float32)
    logits_u = (logits_x + np.float32(difference) * towards).astype(np.float32)
    labels = np.arange(64) % 10
    others = np.arange(10) != labels[:, None]
    exact = [z[others].reshape(64, 9).astype(np.float64) for z in (logits_x, logits_u)]
    log_p, log_q = (z - np.log(np.exp(z).sum(axis=1, keepdims=True)) for z in exact)
    expected = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    value = undistillation(logits_x, logits_u, labels, temperature=1.0)
    np.testing.assert_allclose(value, expected, rtol=2e-3 if difference == 1e-3 else 1e-4)


def test_the_labels_own_logit_does_not_count():
    logits_x, logits_u = logits_pair()
    moved = logits_u.copy()
    moved[np.arange(3), LABELS] += 50.0
    before, after = (undistillation(logits_x, z, LABELS, temperature=2.0) for z in (logits_u, moved))
    np.testing.assert_array_equal(before, after)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(undistillation(logits_x, z, LABELS, temperature=2.0))))(logits_u)
    gradient = np.asarray(gradient)
    assert not np.any(gradient[np.arange(3), LABELS])
    assert np.all(np.count_nonzero(gradient, axis=1) == 4)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_finite_at_delta_zero_and_for_confident_teachers(scale):
    logits_x, logits_u = scale * logits_pair()
    grad_fn = jax.jit(jax.grad(lambda a, b: jnp.sum(undistillation(a, b, LABELS, temperature=1.0)), argnums=(0, 1)))
    np.testing.assert_array_equal(undistillation(logits_x, logits_x, LABELS, temperature=1.0), 0)
    np.testing.assert_allclose(grad_fn(logits_x, logits_x)[1], 0, atol=1e-6)
    value = undistillation(logits_x, logits_u, LABELS, temperature=1.0)
    # 0 is right where both sides are certain of the same class beyond the label.
    assert np.all(np.isfinite(value)) and np.all(value >= 0) and np.any(value > 0)
    assert all(np.all(np.isfinite(gradient)) for gradient in grad_fn(logits_x, logits_u))


def test_a_certain_teacher_still_shows_what_lies_beyond_the_label():
    """The label's probability rounds to 1 in float32; the order of the others must survive."""
    logits_x = np.array([[100.0, 2.0, 0.0]])
    logits_u = np.array([[100.0, 0.0, 2.0]])
    value = undistillation(logits_x, logits_u, np.array([0]), temperature=1.0)
    np.testing.assert_allclose(value, [2 * np.tanh(1.0)], rtol=1e-5)


def test_two_classes_leave_nothing():
    logits_x, logits_u = np.random.default_rng(2).normal(size=(2, 4, 2))

    @jax.jit
    @jax.value_and_grad
    def divergence(z):
        return jnp.sum(undistillation(logits_x, z, np.array([0, 1, 1, 0]), temperature=3.0))

    value, gradient = divergence(logits_u)
    np.testing.assert_allclose(value, 0, atol=1e-7)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_gradient_agrees_with_finite_differences(x64):
    """Through a two-layer network, in the released images."""
    rng = np.random.default_rng(4)
    w1, w2 = rng.normal(size=(12, 6)), rng.normal(size=(6, 5))
    x = rng.uniform(size=(3, 2, 2, 3))
    x_u = x + rng.normal(0, 0.1, x.shape)
    direction = rng.normal(size=x.shape)

    def logits(images):
        return jnp.tanh(images.reshape(3, -1) @ w1) @ w2

    @jax.jit
    def value(images):
        return jnp.sum(undistillation(logits(x), logits(images), LABELS, temperature=3.0))

    measured = (value(x_u + 1e-5 * direction) - value(x_u - 1e-5 * direction)) / 2e-5
    assert abs(measured) > 1e-4
    np.testing.assert_allclose(np.vdot(jax.jit(jax.grad(value))(x_u), direction), measured, rtol=1e-7)


def test_jit_and_vmap_agree_with_plain_calls():
    logits_x, logits_u = logits_pair()
    plain = undistillation(logits_x, logits_u, LABELS, temperature=2.0)

    def one(z_x, z_u, label):
        return undistillation(z_x[None], z_u[None], label[None], temperature=2.0)[0]

    np.testing.assert_allclose(jax.jit(jax.vmap(one))(logits_x, logits_u, LABELS), plain, rtol=1e-5, atol=1e-7)


def test_mixed_examples_have_several_labels():
    logits_x, logits_u = logits_pair()
    np.testing.assert_array_equal(
        undistillation(logits_x, logits_u, np.eye(5, dtype=np.float32)[LABELS], temperature=2.0),
        undistillation(logits_x, logits_u, LABELS, temperature=2.0),
    )
    shares = np.array([[0.3, 0.7, 0, 0, 0], [0, 0, 1.0, 0, 0], [0.2, 0.2, 0.2, 0.2, 0.2]], np.float32)

    def total(logits_u):
        values = undistillation(logits_x, logits_u, shares, temperature=1.0)
        return values.sum(), values

    gradient, values = jax.jit(jax.grad(total, has_aux=True))(logits_u)
    kept_x, kept_u = (z[0, 2:] for z in (logits_x, logits_u))
    expected = kl_divergence(kept_u, kept_x)
    np.testing.assert_allclose(values[0], expected, rtol=1e-4)
    assert values[2] == 0  # nothing is left beyond the labels
    assert np.isfinite(gradient).all() and not gradient[2].any() and not gradient[0, :2].any()
