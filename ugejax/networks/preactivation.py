"""Residual networks with pre-activation: batch norm and ReLU come before each convolution.

Submodules bear the names of kuangliu/pytorch-cifar.
"""

import jax
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.dense import Dense
from ugejax.networks.relu import relu


def se18(num_classes: int) -> Classifier:
    """The SENet-18 of this field's CIFAR tables: a pre-activation ResNet-18 with squeeze-and-excitation in each block.

    Stages of 64, 128, 256 and 512 channels with 2 blocks each, squeezed to a 16th; batch norm and ReLU after the stem,
    none after the last block. 11,260,354 parameters for 10 classes.

    References:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018; He et al., Identity Mappings in Deep Residual Networks,
        ECCV 2016; form of SENet18 in kuangliu/pytorch-cifar.
    """
    return Classifier(SENetBody(), num_classes)


def wrn_28_10(num_classes: int) -> Classifier:
    """The Wide ResNet WRN-28-10: three stages of 160, 320 and 640 channels with 4 pre-activation blocks each.

    A stem of 16 channels without batch norm; batch norm and ReLU after the last block. 36,479,194 parameters for 10
    classes, 36.5M in the paper. Without dropout, the paper's default.

    References:
        Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016.
    """
    return Classifier(WideResNetBody(depth=28, widening=10), num_classes)


class SENetBody(nn.Module):
    """The body of `se18`; features [B, 512]."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`."""
        x = relu(batch_norm(train, "bn1")(Conv(64, name="conv1")(x)))
        for stage, width in enumerate((64, 128, 256, 512)):
            x = _stage(x, train, f"layer{stage + 1}", width, blocks=2, stride=1 if stage == 0 else 2, squeeze=16)
        return x.mean(axis=(1, 2))


class WideResNetBody(nn.Module):
    """Stem, three stages, batch norm, mean over positions; features [B, 64 widening].

    Attributes:
        depth: layers as the paper counts them, 6 n + 4 for n blocks a stage.
        widening: factor k on the stages' 16, 32 and 64 channels.
    """

    depth: int
    widening: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`."""
        x = Conv(16, name="conv1")(x)
        for stage, width in enumerate((16, 32, 64)):
            x = _stage(
                x, train, f"layer{stage + 1}", self.widening * width, blocks=(self.depth - 4) // 6,
                stride=1 if stage == 0 else 2,
            )  # fmt: skip
        return relu(batch_norm(train, "bn1")(x)).mean(axis=(1, 2))


def _stage(
    x: jax.Array, train: bool, name: str, width: int, *, blocks: int, stride: int, squeeze: int | None = None
) -> jax.Array:
    for block in range(blocks):
        x = PreActivationBlock(width, stride if block == 0 else 1, squeeze, name=f"{name}_{block}")(x, train)
    return x


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, around a shortcut.

    Where the block changes the shape, the shortcut is a 1x1 projection of what the first ReLU gives.

    Attributes:
        width: channels that come out.
        stride: of the first convolution.
        squeeze: factor by which squeeze-and-excitation narrows its bottleneck; None for a block without.
    """

    width: int
    stride: int
    squeeze: int | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, ceil(H / stride), ceil(W / stride), width] of maps x [B, H, W, C]."""
        y = relu(batch_norm(train, "bn1")(x))
        if self.stride != 1 or x.shape[-1] != self.width:
            x = Conv(self.width, kernel_size=1, stride=self.stride, name="shortcut_conv")(y)
        y = Conv(self.width, stride=self.stride, name="conv1")(y)
        y = Conv(self.width, name="conv2")(relu(batch_norm(train, "bn2")(y)))
        if self.squeeze is not None:
            gate = relu(Dense(self.width // self.squeeze, name="fc1")(y.mean(axis=(1, 2), keepdims=True)))
            y = y * nn.sigmoid(Dense(self.width, name="fc2")(gate))
        return x + y
