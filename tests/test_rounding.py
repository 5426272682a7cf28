"""Rounding to 8 bits: the bound holds in integers, and the random rounding has no bias."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.constraints.rounding import round_to_8bit, round_within, stochastic_round_to_8bit
from ugejax.views import BlindSet
from ugejax.views.identity import IdentityView

SHAPE = (2, 6, 6, 3)
stochastic = jax.jit(stochastic_round_to_8bit)
nearest = jax.jit(round_to_8bit)


def difference(x_u, x_u8):
    return np.asarray(x_u, np.int64) - np.asarray(x_u8, np.int64)


@hypothesis.given(st.integers(0, 2**31 - 1), st.integers(0, 64), st.sampled_from([0.0, 0.01, 0.1, 5.0]))
@hypothesis.settings(max_examples=60, deadline=None)
def test_bound_holds_exactly(seed, levels, scale):
    rng = np.random.default_rng(seed)
    x_u8 = rng.integers(0, 256, SHAPE, np.uint8)
    delta = rng.normal(0, scale, SHAPE).astype(np.float32)
    eps = levels / 255
    for x_u in (
        stochastic(jax.random.key(seed), x_u8, delta, lower=-eps, upper=eps),
        nearest(x_u8, delta, lower=-eps, upper=eps),
    ):
        assert x_u.dtype == np.uint8
        offset = difference(x_u, x_u8)
        assert np.abs(offset).max() <= levels
        # No wrap-around: an overflow of uint8 would turn the sign.
        assert np.all((offset == 0) | (np.sign(offset) == np.sign(delta)))


def test_every_whole_bound_is_reached_despite_float_noise():
    """A bound one unit in the last place below k / 255 still means k; flooring it would lose a grey level."""
    levels = np.arange(1, 256)
    bound = np.nextafter((levels / 255).astype(np.float32), np.float32(0)).reshape(1, 1, 255, 1)
    assert np.any(np.floor(255 * bound.ravel()) < levels)
    black = np.zeros(bound.shape, np.uint8)
    up = nearest(black, np.full(bound.shape, 2.0), lower=-bound, upper=bound)
    np.testing.assert_array_equal(difference(up, black).ravel(), levels)
    down = nearest(black + 255, np.full(bound.shape, -2.0), lower=-bound, upper=bound)
    np.testing.assert_array_equal(difference(down, black + 255).ravel(), -levels)


def test_fractional_bounds_shrink_to_whole_levels():
    x_u8 = np.full((1, 1, 2, 1), 128, np.uint8)
    delta = np.array([1.0, -1.0]).reshape(1, 1, 2, 1)
    x_u = nearest(x_u8, delta, lower=-2.9 / 255, upper=7.9 / 255)
    np.testing.assert_array_equal(difference(x_u, x_u8).ravel(), [7, -2])
    tight = stochastic(jax.random.key(0), x_u8, delta, lower=-0.9 / 255, upper=0.9 / 255)
    np.testing.assert_array_equal(tight, x_u8)


def test_bounds_per_pixel():
    x_u8 = np.full((1, 2, 2, 1), 100, np.uint8)
    upper = np.array([[0.0, 1.0], [2.0, 8.0]])[None, :, :, None] / 255
    x_u = nearest(x_u8, np.ones((1, 2, 2, 1)), lower=-upper, upper=upper)
    np.testing.assert_array_equal(difference(x_u, x_u8).ravel(), [0, 1, 2, 8])


def test_stochastic_rounding_is_unbiased_inside_the_bounds():
    levels = np.linspace(-7, 7, 57)
    x_u8 = np.full((1, 1, 57, 1), 128, np.uint8)
    delta = (levels / 255).reshape(1, 1, 57, 1)
    keys = jax.random.split(jax.random.key(0), 20_000)
    rounded = jax.vmap(lambda key: stochastic(key, x_u8, delta, lower=-8 / 255, upper=8 / 255))(keys)
    offsets = difference(rounded, x_u8).reshape(len(keys), 57)
    # Standard error at most 0.5 / sqrt(20,000) = 0.0035: five of them, over 57 positions.
    np.testing.assert_allclose(offsets.mean(axis=0), levels, atol=0.018)
    assert set(offsets[:, 1].tolist()) == {-7, -6}


def test_nearest_rounding_keeps_the_class_residue_that_stochastic_rounding_removes():
    """A class-wise delta of 0.4 levels vanishes under rounding to nearest in every example."""
    x_u8 = np.full((500, 4, 4, 1), 90, np.uint8)
    delta = np.full(x_u8.shape, 0.4 / 255)
    x_nearest = nearest(x_u8, delta, lower=-8 / 255, upper=8 / 255)
    x_stochastic = stochastic(jax.random.key(1), x_u8, delta, lower=-8 / 255, upper=8 / 255)
    assert not difference(x_nearest, x_u8).any()
    np.testing.assert_allclose(difference(x_stochastic, x_u8).mean(), 0.4, atol=0.03)


def test_whole_levels_are_left_as_they_are():
    levels = np.arange(-8, 9)
    x_u8 = np.full((1, 1, 17, 1), 128, np.uint8)
    delta = (levels / 255.0).reshape(1, 1, 17, 1)
    x_u = nearest(x_u8, delta, lower=-8 / 255, upper=8 / 255)
    np.testing.assert_array_equal(difference(x_u, x_u8).ravel(), levels)
    zero = stochastic(jax.random.key(0), x_u8, np.zeros_like(delta), lower=-1, upper=1)
    np.testing.assert_array_equal(zero, x_u8)


def test_half_precision_noise_is_rounded_at_full_precision():
    x_u8 = np.full((64, 8, 8, 3), 128, np.uint8)
    delta = np.full(x_u8.shape, 100.25 / 255, jnp.bfloat16)
    x_u = stochastic(jax.random.key(0), x_u8, delta, lower=-1, upper=1)
    np.testing.assert_allclose(difference(x_u, x_u8).mean(), 255 * float(delta[0, 0, 0, 0]), atol=0.03)


def test_non_finite_noise_goes_where_the_docstring_says():
    x_u8 = np.full((1, 1, 3, 1), 128, np.uint8)
    delta = np.array([jnp.nan, jnp.inf, -jnp.inf]).reshape(1, 1, 3, 1)
    for x_u in (
        nearest(x_u8, delta, lower=-8 / 255, upper=8 / 255),
        stochastic(jax.random.key(0), x_u8, delta, lower=-8 / 255, upper=8 / 255),
    ):
        np.testing.assert_array_equal(difference(x_u, x_u8).ravel(), [0, 8, -8])


def test_originals_must_be_uint8():
    with pytest.raises(TypeError, match="uint8"):
        nearest(np.zeros(SHAPE), np.zeros(SHAPE), lower=-1, upper=1)


def test_key_decides_and_jit_and_vmap_agree_with_plain_calls():
    rng = np.random.default_rng(0)
    x_u8 = rng.integers(0, 256, SHAPE, np.uint8)
    delta = rng.normal(0, 0.02, SHAPE).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), 3)

    def fn(key):
        return stochastic_round_to_8bit(key, x_u8, delta, lower=-8 / 255, upper=8 / 255)

    plain = np.stack([fn(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(fn)(keys[0]), plain[0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(fn))(keys), plain)
    assert np.any(plain[0] != plain[1])


def test_a_ball_leaves_room_for_rounding_at_random():
    """Perturbations are shortened by what rounding adds on average, and few images leave the ball all the same."""
    x_u8 = np.full((200, 8, 8, 3), 128, np.uint8)
    delta = np.zeros(x_u8.shape, np.float32)
    delta[:, ::2, ::2, 0] = 10 / 255  # 16 values: 40 levels in all
    keys = jax.random.split(jax.random.key(0), len(x_u8))
    x_u = round_within(keys, x_u8, delta, IdentityView(), eps=40 / 255, norm="l2")
    moved = difference(x_u, x_u8)
    assert np.sum(moved**2, axis=(1, 2, 3)).max() <= 40**2
    # 192 values, a quarter of a squared level each, of 1,600; the standard error of the mean is below 0.01.
    np.testing.assert_allclose(moved[:, ::2, ::2, 0].mean(), 10 * np.sqrt(1 - 192 / 4 / 40**2), atol=0.03)
    small = round_within(keys, x_u8, delta / 8, IdentityView(), eps=5 / 255, norm="l2")
    np.testing.assert_array_equal(difference(small, x_u8), np.trunc(10 * (delta > 0) / 8))  # no room: towards zero


def test_the_largest_budget_reaches_black_and_white():
    x_u8 = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    keys = jax.random.split(jax.random.key(0), 1)
    for delta, reached in ((-1.0, 0), (1.0, 255)):
        x_u = round_within(keys, x_u8, jnp.full(x_u8.shape, delta), IdentityView(), eps=1.0, norm="linf")
        np.testing.assert_array_equal(x_u, np.full(x_u8.shape, reached))


class OddIsLost(BlindSet):
    """Images keep their blind set where an even number of values moved; two draws, so that some images have neither."""

    draws = 2

    def keeps(self, x, x_u):
        return jnp.sum(x != x_u, axis=(1, 2, 3)) % 2 == 0


def test_an_image_of_which_no_draw_keeps_the_blind_set_stays_as_it_was():
    x_u8 = np.full((400, 4, 4, 1), 128, np.uint8)
    keys = jax.random.split(jax.random.key(0), len(x_u8))
    x_u = round_within(keys, x_u8, jnp.full(x_u8.shape, 0.5 / 255), OddIsLost(), eps=8 / 255, norm="linf")
    moved = (difference(x_u, x_u8) != 0).sum(axis=(1, 2, 3))
    assert not np.any(moved % 2)
    assert 0.15 < np.mean(moved == 0) < 0.35  # a quarter of the images has two odd draws
