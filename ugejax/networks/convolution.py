"""The one convolution of all networks, lowered in the way that is fastest for the backend and the shape."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ugejax.compiler import on_cpu


class Conv(nn.Module):
    """Square convolution of NHWC images with symmetric zero padding of kernel_size // 2 (PyTorch's `padding=k // 2`).

    An input [B, H, W, C] gives [B, ceil(H / stride), ceil(W / stride), features], less with `even`. The parameters are
    `kernel` (HWIO, float32; I is C / groups) and, with `use_bias`, `bias` (zeros); it computes in the dtype of its
    input.

    Attributes:
        features: number of output channels.
        kernel_size: odd side of the kernel.
        stride: step along both axes.
        use_bias: whether a bias is added.
        groups: how many groups of channels are convolved apart; C and `features` are multiples of it. A depthwise
            convolution has C of them.
        kernel_init: initialisation of the kernel, He normal unless told.
        even: whether an odd last row and an odd last column of the output are left out, which a pooling by 2x2 that
            follows would leave out anyway; of a convolution by stride 1 in one group.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = False
    groups: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    even: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, ceil(H / stride), ceil(W / stride), features] of x [B, H, W, C]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        y = convolve_by_xla(x, kernel, 1, even=True) if self.even else convolve(x, kernel, self.stride)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(x.dtype)
        return y


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves with the lowering that measured fastest for the backend and the kernel's shape.

    Args:
        x: images [B, H, W, C].
        kernel: [k, k, C / groups, F], k odd, of the same dtype as x; its shape tells the number of groups.
        stride: step along both axes.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), F].
    """
    side, _, channels, features = kernel.shape
    groups = x.shape[-1] // channels
    if on_cpu():
        if groups == features > 1 and channels == 1:
            # Many times faster, forward and backward; the figures of every rule here: `experiments.bench.lowerings`.
            return convolve_by_shifts(x, kernel, stride)
        # XLA's own is its plain loops there, forward or in the derivative by x.
        small = math.ceil(min(x.shape[1:3]) / stride) < side
        if groups == 1 and (side == 1 or small):
            return convolve_by_matmul(x, kernel, stride)
    return convolve_by_xla(x, kernel, stride)


def convolve_by_xla(x: jax.Array, kernel: jax.Array, stride: int, *, even: bool = False) -> jax.Array:
    """`convolve` as XLA's convolution; with `even`, see `Conv`, what is left out is not computed."""
    pad = kernel.shape[0] // 2
    padding = [(pad, pad - even * (side % 2)) for side in x.shape[1:3]]
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )  # fmt: skip


def convolve_by_matmul(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`convolve` in one group, as k * k shifted slices, concatenated along the channels, and one matrix product."""
    side, _, channels, features = kernel.shape
    return jnp.concatenate(_slices(x, side, stride), axis=-1) @ kernel.reshape(side * side * channels, features)


def convolve_by_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`convolve` of a depthwise kernel [k, k, 1, C], as a weighted sum of k * k shifted slices."""
    weights = kernel.reshape(-1, x.shape[-1])
    return functools.reduce(operator.add, map(operator.mul, weights, _slices(x, kernel.shape[0], stride)))


def _slices(x: jax.Array, side: int, stride: int) -> list[jax.Array]:
    """What the entries of a square kernel meet, row by row, each [B, ceil(H / stride), ceil(W / stride), C]."""
    _, height, width, _ = x.shape
    pad = side // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    # The last row and column of a slice start at stride * (ceil(n / stride) - 1) < n, hence the bounds below.
    return [
        padded[:, row : row + height : stride, column : column + width : stride, :]
        for row in range(side)
        for column in range(side)
    ]
