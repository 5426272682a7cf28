"""Budget: the balls, the box, and what norms are reported."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugejax.constraints.budget import amplitude, box, project_l2, project_linf, realised

EPS = 8 / 255
linf_ball = jax.jit(project_linf)
l2_ball = jax.jit(project_l2)
norms_of = jax.jit(realised)


def random_delta(seed, scale, shape=(3, 4, 4, 3)):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


@hypothesis.given(st.integers(0, 2**31 - 1), st.sampled_from([1e-6, 0.02, 1.0, 1e4]), st.floats(0, 2, width=32))
@hypothesis.settings(max_examples=40, deadline=None)
def test_projections_reach_the_ball_and_leave_its_inside(seed, scale, eps):
    delta = random_delta(seed, scale)
    linf, l2 = linf_ball(delta, eps), l2_ball(delta, eps)
    assert np.all(norms_of(linf).linf <= np.float32(eps))
    assert np.all(norms_of(l2).l2 <= eps * (1 + 1e-5) + 1e-12)
    np.testing.assert_array_equal(linf_ball(linf, eps), linf)
    np.testing.assert_allclose(l2_ball(l2, eps), l2, rtol=1e-5)
    linf, l2 = np.asarray(linf), np.asarray(l2)
    for example in range(len(delta)):
        if np.max(np.abs(delta[example])) <= eps:
            np.testing.assert_array_equal(linf[example], delta[example])
        if np.linalg.norm(delta[example]) < 0.999 * eps:
            np.testing.assert_array_equal(l2[example], delta[example])


def test_projections_agree_with_optax():
    delta = random_delta(0, 1.0)
    for example in range(len(delta)):
        np.testing.assert_allclose(
            l2_ball(delta, 0.5)[example], jax.jit(optax.projections.projection_l2_ball)(delta[example], 0.5), rtol=1e-5
        )
        np.testing.assert_allclose(
            linf_ball(delta, 0.5)[example],
            jax.jit(optax.projections.projection_linf_ball)(delta[example], 0.5),
            rtol=1e-6,
        )


def test_negative_noise_survives():
    """Clamping the noise itself to the range of images loses half of it."""
    delta = -random_delta(0, 1.0)
    np.testing.assert_allclose(linf_ball(delta, EPS), -linf_ball(-delta, EPS))
    assert np.any(linf_ball(delta, EPS) < 0)


def test_radius_per_example():
    delta = random_delta(0, 1.0, (2, 3, 4, 4, 3))
    eps = jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    np.testing.assert_allclose(norms_of(linf_ball(delta, eps)).linf, eps, rtol=1e-6)
    np.testing.assert_allclose(norms_of(l2_ball(delta, eps)).l2, eps, rtol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_gradients_are_finite_at_zero(eps):
    zero = np.zeros((2, 4, 4, 3), np.float32)
    for project in (linf_ball, l2_ball):
        assert np.all(project(zero, eps) == 0)
        assert np.all(np.isfinite(jax.grad(lambda d, p=project: p(d, eps).sum())(zero)))


def test_non_finite_noise_is_not_hidden():
    delta = random_delta(0, 0.1)
    delta[1, 0, 0, 0] = np.nan
    assert np.isnan(linf_ball(delta, EPS)[1, 0, 0, 0])
    assert np.isnan(l2_ball(delta, EPS)[1, 0, 0, 0])
    assert np.isnan(norms_of(delta).linf[1])
    np.testing.assert_array_equal(np.isfinite(norms_of(l2_ball(delta, EPS)).l2), [True, False, True])


@hypothesis.given(st.integers(0, 2**31 - 1))
@hypothesis.settings(max_examples=20, deadline=None)
def test_box_gives_images_exactly(seed):
    x = np.random.default_rng(seed).uniform(size=(2, 4, 4, 3)).astype(np.float32)
    x[0, 0], x[0, 1] = 0, 1
    delta = random_delta(seed, 1.0, x.shape)
    boxed = np.asarray(box(delta, jnp.asarray(x)))
    assert np.all(x + boxed >= 0) and np.all(x + boxed <= 1)
    inside = (x + delta > 0) & (x + delta < 1)
    np.testing.assert_array_equal(np.where(inside, boxed, 0), np.where(inside, delta, 0))


def test_amplitude_worked_constants():
    assert amplitude(0.5, "linf", (4, 4, 1)) == 0.5
    assert amplitude(0.5, "l2", (4, 4, 1)) == 0.125  # sixteen values that all have it have 0.5 together


def test_realised_worked_constants():
    delta = np.zeros((2, 2, 2, 1), np.float32)
    delta[0, 0, 0, 0], delta[0, 1, 1, 0] = 3, -4
    norms = norms_of(delta)
    np.testing.assert_allclose(norms.linf, [4, 0])
    np.testing.assert_allclose(norms.l2, [5, 0])


def test_jit_and_vmap_agree_with_plain_calls():
    delta = random_delta(0, 1.0)
    x = np.random.default_rng(1).uniform(size=delta.shape).astype(np.float32)
    for fn in (lambda d, x: project_linf(d, EPS), lambda d, x: project_l2(d, 0.5), box):
        plain = fn(delta, x)
        np.testing.assert_allclose(jax.jit(fn)(delta, x), plain, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(fn))(delta, x), plain, rtol=1e-6)
