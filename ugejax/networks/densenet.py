"""DenseNet for CIFAR-sized images."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.relu import relu
from ugejax.networks.sizes import require_side


def de121(num_classes: int) -> Classifier:
    """The DenseNet-121 of this field's CIFAR tables: dense blocks of 6, 12, 24 and 16 layers, growth rate 32.

    A 3x3 stem of 64 channels without max-pool; the transitions between the blocks halve channels and resolution.
    Images must be at least 8x8. 6,956,298 parameters for 10 classes.

    References:
        Huang et al., Densely Connected Convolutional Networks, CVPR 2017; form of DenseNet121 in
        kuangliu/pytorch-cifar.
    """
    return Classifier(DenseNetBody(blocks=(6, 12, 24, 16), growth=32), num_classes)


class DenseNetBody(nn.Module):
    """Stem, dense blocks with transitions between them, batch norm, mean over positions; features [B, D].

    Submodules bear the names of kuangliu/pytorch-cifar.

    Attributes:
        blocks: layers of each dense block.
        growth: channels that a layer adds.
    """

    blocks: tuple[int, ...]
    growth: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: a transition would leave nothing of x.
        """
        require_side(x, 2 ** (len(self.blocks) - 1), "DenseNet")
        x = Conv(2 * self.growth, name="conv1")(x)
        for block, layers in enumerate(self.blocks):
            if block > 0:
                x = relu(batch_norm(train, f"trans{block}_bn")(x))
                x = Conv(x.shape[-1] // 2, kernel_size=1, name=f"trans{block}_conv")(x)
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for layer in range(layers):
                x = DenseLayer(self.growth, name=f"dense{block + 1}_{layer}")(x, train)
        return relu(batch_norm(train, "bn")(x)).mean(axis=(1, 2))


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a convolution, 1x1 to 4 `growth` channels and then 3x3 to `growth`, put before x."""

    growth: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, growth + C] of maps x [B, H, W, C]."""
        y = relu(batch_norm(train, "bn1")(x))
        y = Conv(4 * self.growth, kernel_size=1, name="conv1")(y)
        y = Conv(self.growth, name="conv2")(relu(batch_norm(train, "bn2")(y)))
        return jnp.concatenate([y, x], axis=-1)
