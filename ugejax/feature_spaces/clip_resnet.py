"""CLIP's ResNets (RN50 and its kin), in the form and by the names of openai/CLIP and open_clip.

A stem of three convolutions, bottlenecks whose stride is an average pooling before the convolution, and attention in
place of the last pooling: its query is the mean over positions. A submodule's path, joined by dots, is PyTorch's.

References:
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 2.4; He et
    al., Bag of Tricks for Image Classification with Convolutional Neural Networks, CVPR 2019 (ResNet-D).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.feature_spaces.vision_transformer import attend
from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.convolution import Conv

HEAD = 64


class ClipResNet(nn.Module):
    """CLIP's image tower as a ResNet.

    Attributes:
        width: channels of the stem.
        blocks: number of blocks of each stage.
        projection: number of features.
    """

    width: int
    blocks: tuple[int, ...]
    projection: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, projection] of normalised images x [B, S, S, 3], S a multiple of 32."""
        for index, (width, stride) in enumerate(((self.width // 2, 2), (self.width // 2, 1), (self.width, 1)), 1):
            x = Conv(width, stride=stride, name=f"visual.conv{index}")(x)
            x = nn.relu(batch_norm(False, f"visual.bn{index}")(x))
        x = _pooled(x, 2)
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = Bottleneck(self.width * 2**stage, stride, name=f"visual.layer{stage + 1}.{block}")(x)
        return AttentionPool(self.projection, name="visual.attnpool")(x)


class Bottleneck(nn.Module):
    """A 1x1 convolution that narrows, a 3x3 one, pooling by the stride, and a 1x1 one that widens to 4 `width`."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H / stride, W / stride, 4 width] of maps x [B, H, W, C]."""
        y = nn.relu(batch_norm(False, "bn1")(Conv(self.width, kernel_size=1, name="conv1")(x)))
        y = nn.relu(batch_norm(False, "bn2")(Conv(self.width, name="conv2")(y)))
        y = batch_norm(False, "bn3")(Conv(4 * self.width, kernel_size=1, name="conv3")(_pooled(y, self.stride)))
        if self.stride > 1 or x.shape[-1] != y.shape[-1]:
            x = Conv(4 * self.width, kernel_size=1, name="downsample.0")(_pooled(x, self.stride))
            x = batch_norm(False, "downsample.1")(x)
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """What the mean over positions attends to, among itself and all positions; heads of 64 channels."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, features] of maps x [B, H, W, C]."""
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        x = x + self.param("positional_embedding", nn.initializers.zeros, x.shape[1:])
        q, k, v = (nn.Dense(x.shape[-1], name=f"{part}_proj") for part in "qkv")
        y = attend(q(x[:, :1]), k(x), v(x), heads=x.shape[-1] // HEAD)
        return nn.Dense(self.features, name="c_proj")(y[:, 0])


def _pooled(x: jax.Array, size: int) -> jax.Array:
    """Means over size x size pixels of maps x [B, H, W, C]."""
    return x if size == 1 else nn.avg_pool(x, (size, size), (size, size))
