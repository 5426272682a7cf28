"""Both lowerings of the convolution are the same function, and the rule picks between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.networks import convolution
from ugejax.networks.convolution import Conv, convolve, convolve_by_matmul, convolve_by_xla

CASES = [(3, 1, 8, 8), (3, 2, 7, 10), (1, 2, 6, 5), (5, 2, 9, 8), (3, 1, 1, 1)]


def operands(side: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    x_key, kernel_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (2, height, width, 3))
    return x, jax.random.normal(kernel_key, (side, side, 3, 4)) / (3 * side**2) ** 0.5


@pytest.mark.parametrize(("side", "stride", "height", "width"), CASES)
def test_lowerings_agree_in_value_and_gradient(side, stride, height, width):
    x, kernel = operands(side, height, width)

    def value_and_gradients(lowering):
        def loss(x, kernel):
            y = lowering(x, kernel, stride)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)

    (_, ours), our_gradients = value_and_gradients(convolve_by_matmul)
    (_, theirs), their_gradients = value_and_gradients(convolve_by_xla)
    assert ours.shape == (2, -(-height // stride), -(-width // stride), 4)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for our, their in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-5)


@pytest.mark.parametrize("lowering", [convolve_by_matmul, convolve_by_xla])
def test_padding_is_symmetric_at_stride_two(lowering):
    """A kernel that only looks up and left sees the zero padding first: PyTorch's alignment, not TensorFlow's SAME."""
    x = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
    np.testing.assert_allclose(lowering(x, kernel, 2)[0, :, :, 0], [[0.0, 0.0], [0.0, 6.0]])


def test_rule_picks_the_lowering(monkeypatch):
    monkeypatch.setattr(convolution, "convolve_by_matmul", lambda *_: "matmul")
    monkeypatch.setattr(convolution, "convolve_by_xla", lambda *_: "xla")

    def choice(side, stride, size, channels):
        return convolve(jnp.zeros((1, size, size, channels)), jnp.zeros((side, side, channels, 8)), stride)

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert choice(3, 2, 32, 3) == choice(3, 1, 4, 64) == choice(1, 1, 32, 64) == "matmul"
    assert choice(3, 1, 8, 64) == choice(3, 2, 32, 64) == choice(5, 2, 8, 3) == "xla"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choice(3, 2, 32, 3) == choice(1, 1, 32, 64) == "xla"


def test_bias_is_added_per_feature():
    x = jnp.ones((1, 4, 4, 3))
    layer = Conv(5, use_bias=True)
    variables = layer.init(jax.random.key(0), x)
    shifted = {"params": {**variables["params"], "bias": jnp.arange(5.0)}}
    difference = layer.apply(shifted, x) - layer.apply(variables, x)
    np.testing.assert_allclose(difference, jnp.broadcast_to(jnp.arange(5.0), difference.shape), atol=1e-5)


def test_kernel_is_initialised_for_relu():
    kernel = Conv(64).init(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))["params"]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
