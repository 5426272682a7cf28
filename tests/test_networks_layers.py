"""The layers that the field's architectures are made of, each against what it stands for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from ugejax.networks.classifier import Classifier
from ugejax.networks.densenet import DenseLayer
from ugejax.networks.group_norm import GroupNorm
from ugejax.networks.mobile import InvertedResidual, ShuffleBlock
from ugejax.networks.pooling import max_pool
from ugejax.networks.preactivation import PreActivationBlock
from ugejax.networks.relu import relu
from ugejax.networks.tokens import FeedForward
from ugejax.networks.transformer import (
    HEAD,
    CaiTBody,
    CaiTLayer,
    LocalitySelfAttention,
    TalkingHeadsAttention,
    ViTBody,
    shifted,
)

KEY = jax.random.key(0)
NORMALISED = 1 / np.sqrt(1 + 1e-5)  # what batch norm multiplies by while its mean is 0 and its variance 1


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def filled(layer, *arguments, **constants):
    """Variables of a layer without the compilation of its initialisation: random kernels, norms that do nothing.

    `constants` sets parameters to a value, as in conv1__kernel=0.0.
    """
    shapes = flatten_dict(jax.eval_shape(lambda: layer.init(KEY, *arguments)), sep="/")

    def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
        leaf = name.rsplit("/")[-1]
        value = constants.get(name.removeprefix("params/").replace("/", "__"))
        if value is None and leaf in ("scale", "var", "mean", "bias"):
            value = float(leaf in ("scale", "var"))
        return normal(*shape) * 0.3 if value is None else np.full(shape, value, np.float32)

    return unflatten_dict({name: fill(name, leaf.shape) for name, leaf in shapes.items()}, sep="/")


def applied(layer, variables, *arguments):
    """The layer in eval mode."""
    return jax.jit(lambda variables: layer.apply(variables, *arguments, False))(variables)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_is_jax_s_in_value_and_both_derivatives(dtype):
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-30, 3.0, np.inf, np.nan]).astype(dtype)
    tangent = np.arange(1.0, 9.0).astype(dtype)

    def value_and_derivatives(f):
        gradient = jax.grad(lambda x: f(x[:-1]).sum())(x)
        return *jax.jvp(f, (x,), (tangent,)), gradient

    ours, theirs = (
        [np.asarray(array) for array in jax.jit(lambda f=f: value_and_derivatives(f))()] for f in (relu, jax.nn.relu)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype == dtype
        np.testing.assert_array_equal(mine[:-1], other[:-1])
    assert np.isnan(ours[0][-1])


def test_half_of_the_channels_passes_a_shuffle_block_and_is_interleaved():
    x, layer = normal(2, 4, 4, 8), ShuffleBlock(8, downsamples=False)
    y = applied(layer, filled(layer, x, False), x)
    np.testing.assert_array_equal(y[..., 0::2], x[..., :4])
    assert np.abs(np.asarray(y[..., 1::2])).max() > 0


def test_both_branches_of_a_shuffle_block_halve_the_resolution():
    layer = ShuffleBlock(8, downsamples=True)
    assert jax.eval_shape(lambda: layer.init_with_output(KEY, jnp.zeros((2, 7, 8, 6)), True))[0].shape == (2, 4, 4, 8)


def test_a_closed_gate_leaves_the_shortcut_alone_and_an_open_one_changes_nothing():
    x, layer = normal(2, 4, 4, 16), PreActivationBlock(16, 1, squeeze=16)
    closed, opened = (filled(layer, x, False, fc2__bias=bias) for bias in (-100.0, 100.0))
    np.testing.assert_array_equal(applied(layer, closed, x), x)
    plain = applied(PreActivationBlock(16, 1, squeeze=None), opened, x)
    np.testing.assert_allclose(applied(layer, opened, x), plain, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(plain - x)).max() > 0.1


def test_the_shortcut_of_a_pre_activation_block_is_projected_after_the_first_relu():
    x, layer = normal(1, 4, 4, 3), PreActivationBlock(5, 2, squeeze=None)
    variables = filled(layer, x, False, conv2__kernel=0.0)
    active = np.maximum(x, 0)[:, ::2, ::2] * NORMALISED
    expected = active @ variables["params"]["shortcut_conv"]["kernel"][0, 0]
    np.testing.assert_allclose(applied(layer, variables, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "stride"), [(3, 1), (4, 1), (3, 2)])
def test_an_inverted_residual_has_a_shortcut_at_stride_one(width, stride):
    x, layer = normal(1, 4, 4, 3), InvertedResidual(2, width, stride)
    variables = filled(layer, x, False, bn3__scale=0.0)  # nothing passes the convolutions
    assert variables["params"]["conv2"]["kernel"].shape == (3, 3, 1, 6)
    if stride == 2:
        expected = np.zeros((1, 2, 2, 3))
    elif width == 3:
        expected = x
    else:
        expected = x @ variables["params"]["shortcut_conv"]["kernel"][0, 0] * NORMALISED
    np.testing.assert_allclose(applied(layer, variables, x), expected, rtol=1e-4, atol=1e-6)


def test_a_dense_layer_puts_its_channels_before_what_it_got():
    x, layer = normal(1, 4, 4, 6), DenseLayer(growth=2)
    y = applied(layer, filled(layer, x, False), x)
    assert y.shape == (1, 4, 4, 8)
    np.testing.assert_array_equal(y[..., 2:], x)


def test_max_pool_leaves_an_odd_last_row_out():
    x = jnp.arange(15.0).reshape(1, 5, 3, 1)
    np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[4.0], [10.0]])


@pytest.mark.parametrize(("shape", "window"), [((2, 5, 7, 3), (2, 2)), ((2, 7, 6, 3), (3, 2))])
def test_max_pool_is_that_of_flax_in_value_and_gradient(shape, window):
    x, direction = normal(*shape), normal(shape[0], shape[1] // window[0], shape[2] // window[1], shape[3], seed=2)

    def gradient(pool):
        return jax.jit(lambda x: jax.vjp(pool, x)[1](direction)[0])(x)

    def theirs(x):
        return nn.max_pool(x, window, strides=window)

    np.testing.assert_array_equal(*jax.jit(lambda x: (max_pool(x, window), theirs(x)))(x))
    np.testing.assert_array_equal(gradient(lambda x: max_pool(x, window)), gradient(theirs))


def test_equal_values_of_a_window_share_the_gradient():
    gradient = jax.grad(lambda x: max_pool(x).sum())
    np.testing.assert_array_equal(gradient(jnp.zeros((1, 2, 3, 1)))[0, :, :, 0], [[0.25, 0.25, 0], [0.25, 0.25, 0]])


def test_shifted_images_have_moved_by_one_pixel_in_four_directions():
    x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    right, left, down, up = (moved[0, :, :, 0].tolist() for moved in shifted(x))
    assert right == [[0, 1], [0, 3]] and left == [[2, 0], [4, 0]]
    assert down == [[0, 0], [1, 2]] and up == [[3, 4], [0, 0]]


def projections(x: np.ndarray, kernel: np.ndarray, heads: int) -> list[np.ndarray]:
    """What a Dense layer without bias gives, as parts [B, N, heads, HEAD]."""
    parts = np.split(x @ kernel, kernel.shape[1] // (heads * HEAD), axis=-1)
    return [part.reshape(*x.shape[:2], heads, HEAD) for part in parts]


def test_locality_self_attention_is_attention_to_all_tokens_but_oneself():
    x, layer = normal(2, 5, 8), LocalitySelfAttention(heads=2)
    variables = filled(layer, x, False, temperature=-np.log(HEAD) / 2)
    params = variables["params"]
    q, k, v = projections(x, params["to_qkv"]["kernel"], 2)
    others = ~np.eye(5, dtype=bool)[None, None]
    attention = functools.partial(jax.nn.dot_product_attention, mask=others, scale=1 / np.sqrt(HEAD))
    expected = jax.jit(attention)(q, k, v)
    expected = np.asarray(expected).reshape(2, 5, -1) @ params["to_out"]["kernel"]
    np.testing.assert_allclose(applied(layer, variables, x), expected, atol=1e-5)
    first = jax.jit(layer.init, static_argnums=2)(KEY, x, False)["params"]["temperature"]
    assert float(first) == pytest.approx(-np.log(HEAD) / 2)


def test_heads_that_do_not_talk_are_plain_attention_and_exchanged_ones_swap_weights():
    x, context, layer = normal(2, 3, 8), normal(2, 4, 8, seed=2), TalkingHeadsAttention(heads=2)
    params = filled(layer, x, context, False)["params"]
    (q,), (k, v) = (
        projections(z, params[name]["kernel"], 2)
        for z, name in ((x, "to_q"), (np.concatenate([x, context], axis=1), "to_kv"))
    )
    keep, swap = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]
    attention = jax.jit(jax.nn.dot_product_attention)
    apply = jax.jit(lambda mixes: layer.apply({"params": params | mixes}, x, context, False))
    for before, after, values in ((keep, keep, v), (swap, swap, v), (keep, swap, v[:, :, ::-1])):
        # Weights that went to the other head meet the other head's values.
        y = np.asarray(attention(q, k, values))
        y = y[:, :, ::-1] if values is not v else y
        got = apply({"mix_before": before, "mix_after": after})
        np.testing.assert_allclose(got, y.reshape(2, 3, -1) @ params["to_out"]["kernel"], atol=1e-5)


def test_layer_scale_starts_at_a_tenth_and_at_zero_nothing_is_added():
    x, layer = normal(2, 3, 8), CaiTLayer(heads=1, hidden=4)
    first = jax.jit(layer.init, static_argnums=(2, 3))(KEY, x, None, False)["params"]
    for name in ("attention_scale", "feed_forward_scale"):
        np.testing.assert_allclose(first[name], np.full(8, 0.1), rtol=1e-6)
    variables = filled(layer, x, None, False, attention_scale=0.0, feed_forward_scale=0.0)
    np.testing.assert_array_equal(applied(layer, variables, x, None), x)


def test_feed_forward_layer_is_dense_gelu_dense_and_drops_out_in_training_alone():
    x, layer = normal(2, 3, 8), FeedForward(hidden=4, dropout=0.5)
    variables = filled(layer, x, False)
    hidden, out = (variables["params"][name]["kernel"] for name in ("Dense_0", "Dense_1"))
    expected = np.asarray(jax.jit(lambda x: jax.nn.gelu(x, approximate=False))(x @ hidden)) @ out
    np.testing.assert_allclose(applied(layer, variables, x), expected, atol=1e-5)
    dropped = jax.jit(lambda key: layer.apply(variables, x, True, rngs={"dropout": key}))(KEY)
    assert 0.2 < float((dropped == 0).mean()) < 0.8


@pytest.mark.parametrize(
    "body",
    [ViTBody(width=8, depth=1, heads=1, hidden=8), CaiTBody(width=8, depth=1, class_depth=1, heads=1, hidden=8)],
    ids=["vit", "cait"],
)
def test_transformers_drop_out_in_training_and_say_the_same_of_an_image_in_evaluation(body):
    network, x = Classifier(body, 3), np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype(np.float32)
    variables = filled(network, x)
    train = jax.jit(lambda key: network.apply(variables, x, train=True, rngs={"dropout": key}))
    assert np.abs(np.asarray(train(jax.random.key(1)) - train(jax.random.key(2)))).max() > 1e-3
    evaluate = jax.jit(lambda x: network.apply(variables, x))
    logits = evaluate(x)
    np.testing.assert_array_equal(evaluate(np.stack([x[0], 0 * x[1]]))[0], logits[0])
    moved = np.roll(x, 4, axis=1)  # the same patches in other places
    assert np.abs(np.asarray(evaluate(moved) - logits)).max() > 1e-4


@pytest.mark.parametrize(("dtype", "apart"), [(jnp.float32, 2e-5), (jnp.bfloat16, 0.1)])
def test_group_norm_is_that_of_flax(dtype, apart):
    x, direction = jnp.asarray(3 + 2 * normal(3, 5, 4, 8), dtype), normal(3, 5, 4, 8, seed=2)
    params = {"scale": jnp.asarray(normal(8)), "bias": jnp.asarray(normal(8, seed=3))}

    def value_and_gradients(layer):
        def loss(params, x):
            y = layer.apply({"params": params}, x)
            assert y.dtype == dtype
            return (direction * y).sum(), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    ours, theirs = value_and_gradients(GroupNorm(4)), value_and_gradients(nn.GroupNorm(4, dtype=dtype))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=apart, rtol=apart), ours, theirs)
    jax.tree.map(np.testing.assert_array_equal, *(jax.jit(one.init)(KEY, x) for one in (GroupNorm(4), nn.GroupNorm(4))))
    params = {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    grey = jax.jit(GroupNorm(2).apply)({"params": params}, np.full((1, 2, 2, 4), 7, np.float32))
    np.testing.assert_array_equal(grey, 0)
