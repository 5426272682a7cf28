"""Residual networks for CIFAR-sized images, built as their PyTorch originals so that figures and weights carry over.

Convolutions have no bias and He normal initialisation.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.relu import relu

# The normalisation with which the published CIFAR-10 weights of r20 and r56 were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def r18(num_classes: int) -> Classifier:
    """The ResNet-18 of this field's CIFAR tables: 3x3 stem, no max-pool, stages of 64, 128, 256 and 512 channels.

    Shortcuts that change the shape are 1x1 projections with batch norm. 11,173,962 parameters for 10 classes.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016; stem as in kuangliu/pytorch-cifar.
    """
    return Classifier(ResNetBody(stages=((64, 2), (128, 2), (256, 2), (512, 2)), shortcut="projection"), num_classes)


def r50(num_classes: int) -> Classifier:
    """The ResNet-50 of this field's CIFAR tables: `r18`'s stem, stages of 3, 4, 6 and 3 bottleneck blocks.

    The bottlenecks have 64, 128, 256 and 512 channels; four times as many come out. The stride is that of the 3x3
    convolution. 23,520,842 parameters for 10 classes.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016; form of ResNet50 in kuangliu/pytorch-cifar.
    """
    stages = ((64, 3), (128, 4), (256, 6), (512, 3))
    return Classifier(ResNetBody(stages, shortcut="projection", bottleneck=True), num_classes)


def r20(num_classes: int) -> Classifier:
    """ResNet-20 for CIFAR: stages of 16, 32, 64 channels with 3 blocks each, option-A shortcuts; see `_pad_shortcut`.

    It normalises by ImageNet's channel statistics, as its published weights expect (see `ugejax.networks.pretrained`).

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """
    return _option_a(3, num_classes)


def r56(num_classes: int) -> Classifier:
    """ResNet-56 for CIFAR: `r20` with 9 blocks per stage."""
    return _option_a(9, num_classes)


def _option_a(blocks: int, num_classes: int) -> Classifier:
    body = ResNetBody(stages=((16, blocks), (32, blocks), (64, blocks)), shortcut="pad")
    return Classifier(body, num_classes, mean=IMAGENET_MEAN, std=IMAGENET_STD)


class ResNetBody(nn.Module):
    """Stem, stages of blocks, mean over positions; features [B, channels of the last stage].

    Every stage but the first halves the resolution. Submodules bear PyTorch's names: conv1, bn1, layer<stage>_<block>.

    Attributes:
        stages: (width, number of blocks) of each stage.
        shortcut: "projection" (1x1 convolution and batch norm) or "pad" (option A) where a block changes the shape.
        bottleneck: whether the blocks are bottlenecks, out of which come 4 times `width` channels, in place of basic
            blocks.
    """

    stages: tuple[tuple[int, int], ...]
    shortcut: Literal["projection", "pad"]
    bottleneck: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`."""
        x = Conv(self.stages[0][0], name="conv1")(x)
        x = relu(batch_norm(train, "bn1")(x))
        for stage, (width, blocks) in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                kind = BottleneckBlock if self.bottleneck else BasicBlock
                x = kind(width, stride, self.shortcut, name=f"layer{stage + 1}_{block}")(x, train)
        return x.mean(axis=(1, 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut."""

    width: int
    stride: int
    shortcut: Literal["projection", "pad"]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, ceil(H / stride), ceil(W / stride), width] of maps x [B, H, W, C]."""
        y = relu(batch_norm(train, "bn1")(Conv(self.width, stride=self.stride, name="conv1")(x)))
        y = batch_norm(train, "bn2")(Conv(self.width, name="conv2")(y))
        return relu(_shortcut(x, y.shape[-1], self.stride, self.shortcut, train) + y)


class BottleneckBlock(nn.Module):
    """A 1x1 convolution that narrows, a 3x3 one, and a 1x1 one that widens, with batch norm, around a shortcut."""

    width: int
    stride: int
    shortcut: Literal["projection", "pad"]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, ceil(H / stride), ceil(W / stride), 4 width] of maps x [B, H, W, C]."""
        y = relu(batch_norm(train, "bn1")(Conv(self.width, kernel_size=1, name="conv1")(x)))
        y = relu(batch_norm(train, "bn2")(Conv(self.width, stride=self.stride, name="conv2")(y)))
        y = batch_norm(train, "bn3")(Conv(4 * self.width, kernel_size=1, name="conv3")(y))
        return relu(_shortcut(x, y.shape[-1], self.stride, self.shortcut, train) + y)


def _shortcut(x: jax.Array, width: int, stride: int, kind: Literal["projection", "pad"], train: bool) -> jax.Array:
    """What a block adds to its convolutions' maps: x itself, where it does not change the shape."""
    if stride == 1 and x.shape[-1] == width:
        return x
    if kind == "pad":
        return _pad_shortcut(x, width, stride)
    return batch_norm(train, "shortcut_bn")(Conv(width, kernel_size=1, stride=stride, name="shortcut_conv")(x))


def _pad_shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
    """Option A: every stride-th position, the missing channels filled with zeros, half of them on either side."""
    x = x[:, ::stride, ::stride, :]
    missing = width - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
