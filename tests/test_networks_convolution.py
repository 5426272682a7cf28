"""All lowerings of the convolution are the same function, and the rule picks between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax.networks import convolution
from ugejax.networks.convolution import Conv, convolve, convolve_by_matmul, convolve_by_shifts, convolve_by_xla

CASES = [(3, 1, 8, 8), (3, 2, 7, 10), (1, 2, 6, 5), (5, 2, 9, 8), (3, 1, 1, 1)]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def operands(side: int, height: int, width: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    x, kernel = normal(2, height, width, 3), normal(side, side, *shape, seed=1)
    return x, kernel / np.float32((3 * side**2) ** 0.5)


@pytest.mark.parametrize(
    ("lowering", "shape", "side", "stride", "height", "width"),
    [(convolve_by_matmul, (3, 4), *case) for case in CASES]
    + [(convolve_by_shifts, (1, 3), *case) for case in CASES if case[0] > 1],
)
def test_lowerings_agree_in_value_and_gradient(lowering, shape, side, stride, height, width):
    x, kernel = operands(side, height, width, shape)

    def value_and_gradients(lowering):
        def loss(x, kernel):
            y = lowering(x, kernel, stride)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)

    (_, ours), our_gradients = value_and_gradients(lowering)
    (_, theirs), their_gradients = value_and_gradients(convolve_by_xla)
    assert ours.shape == (2, -(-height // stride), -(-width // stride), shape[1])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for our, their in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-5)


@pytest.mark.parametrize("lowering", [convolve_by_matmul, convolve_by_shifts, convolve_by_xla])
def test_padding_is_symmetric_at_stride_two(lowering):
    """A kernel that only looks up and left sees the zero padding first: PyTorch's alignment, not TensorFlow's SAME."""
    x, kernel = np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4, 1), np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 0] = 1
    y = np.asarray(jax.jit(lowering, static_argnums=2)(x, kernel, 2))
    np.testing.assert_allclose(y[0, :, :, 0], [[0.0, 0.0], [0.0, 6.0]])


@pytest.mark.parametrize(("groups", "parts"), [(2, [(0, 2), (2, 4)]), (4, [(0, 1), (1, 2), (2, 3), (3, 4)])])
def test_groups_of_channels_are_convolved_apart(groups, parts):
    x = normal(1, 4, 4, 4)

    @jax.jit
    def whole_and_apart():
        y, variables = Conv(8, groups=groups).init_with_output(jax.random.key(1), x)
        kernels = jnp.split(variables["params"]["kernel"], groups, axis=-1)
        apart = [convolve_by_xla(x[..., a:b], kernel, 1) for (a, b), kernel in zip(parts, kernels, strict=True)]
        return y, jnp.concatenate(apart, axis=-1)

    np.testing.assert_allclose(*whole_and_apart(), atol=1e-5)


def test_rule_picks_the_lowering(monkeypatch):
    for name in ("matmul", "shifts", "xla"):
        monkeypatch.setattr(convolution, f"convolve_by_{name}", lambda *_, name=name: name)

    def choice(side, stride, size, channels, kernel=None):
        kernel = np.zeros((side, side, *(kernel or (channels, 8))), np.float32)
        return convolve(np.zeros((1, size, size, channels), np.float32), kernel, stride)

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert choice(1, 1, 32, 64) == choice(3, 1, 2, 64) == choice(3, 2, 4, 3) == choice(5, 2, 8, 3) == "matmul"
    assert choice(3, 2, 32, 3) == choice(3, 1, 3, 64) == choice(3, 2, 5, 64) == choice(5, 2, 9, 3) == "xla"
    assert choice(3, 2, 32, 64, (1, 64)) == choice(5, 1, 8, 64, (1, 64)) == "shifts"
    assert choice(3, 1, 8, 4, (1, 8)) == choice(3, 1, 2, 4, (2, 4)) == choice(1, 1, 8, 4, (2, 4)) == "xla"
    assert choice(3, 1, 2, 1) == "matmul"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choice(3, 2, 4, 3) == choice(1, 1, 32, 64) == choice(3, 2, 32, 64, (1, 64)) == "xla"


def test_bias_is_added_per_feature():
    x, kernel, layer = np.ones((1, 4, 4, 3), np.float32), normal(3, 3, 3, 5), Conv(5, use_bias=True)
    apply = jax.jit(lambda bias: layer.apply({"params": {"kernel": kernel, "bias": bias}}, x))
    difference = np.asarray(apply(np.arange(5, dtype=np.float32))) - apply(np.zeros(5, np.float32))
    np.testing.assert_allclose(difference, np.broadcast_to(np.arange(5), difference.shape), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(5, 4), (7, 9)])
def test_an_even_output_is_what_a_pooling_takes(height, width):
    x, kernel = normal(2, height, width, 3), normal(3, 3, 3, 4)
    layers = Conv(4, even=True), Conv(4)
    y, whole = jax.jit(lambda kernel: [layer.apply({"params": {"kernel": kernel}}, x) for layer in layers])(kernel)
    np.testing.assert_allclose(y, whole[:, : height // 2 * 2, : width // 2 * 2], atol=1e-5)


def test_kernel_is_initialised_for_relu():
    kernel = jax.jit(Conv(64).init)(jax.random.key(0), np.zeros((1, 4, 4, 32), np.float32))["params"]["kernel"]
    assert np.asarray(kernel).std() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
