"""Networks for small devices, with depthwise convolutions in place of full ones, for CIFAR-sized images."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.relu import relu

# (expansion, width, blocks, stride of the first block) of each stage.
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
# (width, blocks) of each stage at size x1.
SHUFFLENET_V2 = ((116, 4), (232, 8), (464, 4))


def mv2(num_classes: int) -> Classifier:
    """The MobileNetV2 of this field's CIFAR tables: 17 inverted residual blocks, 32 to 320 channels, then 1280.

    Stem and second stage keep the resolution. As in the PyTorch form, ReLU in place of ReLU6, and a projection where a
    block of stride 1 changes the number of channels. 2,296,922 parameters for 10 classes.

    References:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; form of MobileNetV2 in
        kuangliu/pytorch-cifar.
    """
    return Classifier(MobileNetV2Body(), num_classes)


def shufflenet_v2(num_classes: int) -> Classifier:
    """ShuffleNetV2 of size x1: stages of 116, 232 and 464 channels with 4, 8 and 4 blocks, then 1024 channels.

    The stem of 24 channels keeps the resolution and has no max-pool. 1,263,854 parameters for 10 classes.

    References:
        Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018; form of
        ShuffleNetV2(1) in kuangliu/pytorch-cifar.
    """
    return Classifier(ShuffleNetV2Body(), num_classes)


class MobileNetV2Body(nn.Module):
    """The body of `mv2`; features [B, 1280]."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`."""
        x = relu(batch_norm(train, "bn1")(Conv(32, name="conv1")(x)))
        for stage, (expansion, width, blocks, stride) in enumerate(MOBILENET_V2):
            for block in range(blocks):
                layer = InvertedResidual(
                    expansion, width, stride if block == 0 else 1, name=f"layer{stage + 1}_{block}"
                )
                x = layer(x, train)
        x = relu(batch_norm(train, "bn2")(Conv(1280, kernel_size=1, name="conv2")(x)))
        return x.mean(axis=(1, 2))


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise 3x3 one, and a linear 1x1 one that narrows; shortcut at stride 1.

    Attributes:
        expansion: factor by which the first convolution widens.
        width: channels that come out.
        stride: of the depthwise convolution.
    """

    expansion: int
    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, ceil(H / stride), ceil(W / stride), width] of maps x [B, H, W, C]."""
        inner = self.expansion * x.shape[-1]
        y = relu(batch_norm(train, "bn1")(Conv(inner, kernel_size=1, name="conv1")(x)))
        y = Conv(inner, stride=self.stride, groups=inner, name="conv2")(y)
        y = relu(batch_norm(train, "bn2")(y))
        y = batch_norm(train, "bn3")(Conv(self.width, kernel_size=1, name="conv3")(y))
        if self.stride != 1:
            return y
        if x.shape[-1] != self.width:
            x = Conv(self.width, kernel_size=1, name="shortcut_conv")(x)
            x = batch_norm(train, "shortcut_bn")(x)
        return x + y


class ShuffleNetV2Body(nn.Module):
    """The body of `shufflenet_v2`; features [B, 1024]."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`."""
        x = relu(batch_norm(train, "bn1")(Conv(24, name="conv1")(x)))
        for stage, (width, blocks) in enumerate(SHUFFLENET_V2):
            for block in range(blocks):
                x = ShuffleBlock(width, downsamples=block == 0, name=f"layer{stage + 1}_{block}")(x, train)
        x = relu(batch_norm(train, "bn2")(Conv(1024, kernel_size=1, name="conv2")(x)))
        return x.mean(axis=(1, 2))


class ShuffleBlock(nn.Module):
    """Two branches of half the channels each, side by side, their channels then interleaved.

    Of two halves of the input one is left alone and one goes through 1x1, depthwise 3x3 and 1x1 convolutions. A block
    that halves the resolution sends the whole input through both branches, the first of which then convolves as well.

    Attributes:
        width: channels that come out.
        downsamples: whether the block halves the resolution.
    """

    width: int
    downsamples: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, width] of maps x [B, H, W, C]; half as high and wide, rounded up, where it downsamples."""
        if self.downsamples:
            kept = self._pointwise(self._depthwise(x, train, 1), train, 2)
        else:
            kept, x = jnp.split(x, 2, axis=-1)
        first = 3 if self.downsamples else 1
        x = self._depthwise(self._pointwise(x, train, first), train, first + 1)
        x = jnp.concatenate([kept, self._pointwise(x, train, first + 2)], axis=-1)
        return x.reshape(*x.shape[:-1], 2, self.width // 2).swapaxes(-1, -2).reshape(x.shape)

    def _pointwise(self, x: jax.Array, train: bool, index: int) -> jax.Array:
        x = Conv(self.width // 2, kernel_size=1, name=f"conv{index}")(x)
        return relu(batch_norm(train, f"bn{index}")(x))

    def _depthwise(self, x: jax.Array, train: bool, index: int) -> jax.Array:
        channels, stride = x.shape[-1], 2 if self.downsamples else 1
        return batch_norm(train, f"bn{index}")(Conv(channels, stride=stride, groups=channels, name=f"conv{index}")(x))
