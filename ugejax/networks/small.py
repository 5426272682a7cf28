"""Small networks that train quickly on a CPU: strided convolutions instead of max-pool, and a perceptron."""

import jax
from flax import linen as nn

from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.dense import Dense
from ugejax.networks.group_norm import GroupNorm
from ugejax.networks.relu import relu

GROUPS = 8


def cnn(num_classes: int) -> Classifier:
    """Five 3x3 convolutions (32; 64, 64; 128, 128), each followed by GroupNorm and ReLU, then the mean over positions.

    The convolutions have no bias. See `stride_of` for where the resolution halves: 32x32 images end as 4x4 maps,
    8x8 images as 2x2 maps.
    """
    return Classifier(ConvolutionalBody(), num_classes)


def cnn_nonorm(num_classes: int) -> Classifier:
    """`cnn` with biases instead of normalisation (He initialisation keeps the scale of the activations)."""
    return Classifier(ConvolutionalBody(norm=False), num_classes)


def res_tiny(num_classes: int) -> Classifier:
    """A stem of 32 channels and two basic residual blocks of 64 and 128 channels with projection shortcuts, GroupNorm.

    The resolution halves as in `cnn`: at the stem and at the entry of each block.
    """
    return Classifier(ResidualBody(), num_classes)


def mlp(num_classes: int) -> Classifier:
    """A perceptron on the flattened image with hidden layers of 512 and 256 ReLU units."""
    return Classifier(PerceptronBody(), num_classes)


def stride_of(x: jax.Array, *, stem: bool = False) -> int:
    """The stride with which a stage enters maps x [B, H, W, C]: 2 where the maps are large enough, else 1.

    The stem halves images of at least 16x16, a later stage halves maps of at least 4x4 (the smaller side counts). So
    the last maps are at least 2x2 for every image of at least 2x2.
    """
    return 2 if min(x.shape[1:3]) >= (16 if stem else 4) else 1


class ConvolutionalBody(nn.Module):
    """The body of `cnn` and `cnn_nonorm`; features [B, 128]."""

    norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` changes nothing."""
        x = self._layer(x, 32, stride_of(x, stem=True))
        for width in (64, 128):
            x = self._layer(x, width, stride_of(x))
            x = self._layer(x, width, 1)
        return x.mean(axis=(1, 2))

    def _layer(self, x: jax.Array, width: int, stride: int) -> jax.Array:
        x = Conv(width, stride=stride, use_bias=not self.norm)(x)
        if self.norm:
            x = GroupNorm(GROUPS)(x)
        return relu(x)


class ResidualBody(nn.Module):
    """The body of `res_tiny`; features [B, 128]."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` changes nothing."""
        x = relu(GroupNorm(GROUPS)(Conv(32, stride=stride_of(x, stem=True))(x)))
        for width in (64, 128):
            stride = stride_of(x)
            residual = relu(GroupNorm(GROUPS)(Conv(width, stride=stride)(x)))
            residual = GroupNorm(GROUPS)(Conv(width)(residual))
            shortcut = GroupNorm(GROUPS)(Conv(width, kernel_size=1, stride=stride)(x))
            x = relu(shortcut + residual)
        return x.mean(axis=(1, 2))


class PerceptronBody(nn.Module):
    """The body of `mlp`; features [B, 256]."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` changes nothing."""
        x = x.reshape(x.shape[0], -1)
        for width in (512, 256):
            x = relu(Dense(width, kernel_init=nn.initializers.he_normal())(x))
        return x
