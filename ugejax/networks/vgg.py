"""VGG with batch norm for CIFAR-sized images."""

import jax
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.pooling import max_pool
from ugejax.networks.relu import relu
from ugejax.networks.sizes import require_side

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16_bn(num_classes: int) -> Classifier:
    """VGG-16 with batch norm: thirteen 3x3 convolutions in five stages, each ended by 2x2 max-pooling.

    The convolutions have biases; one Dense layer in place of the three for ImageNet. Images must be at least 32x32;
    larger ones are averaged over the positions that are left. 14,728,266 parameters for 10 classes.

    References:
        Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015; form of
        VGG16 in kuangliu/pytorch-cifar.
    """
    return Classifier(VGGBody(VGG16), num_classes)


class VGGBody(nn.Module):
    """Stages of convolutions, batch norm and ReLU, mean over positions; features [B, width of the last stage].

    Attributes:
        stages: (width, number of convolutions) of each stage.
    """

    stages: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: a pooling would leave nothing of x.
        """
        require_side(x, 2 ** len(self.stages), "VGG")
        for stage, (width, convolutions) in enumerate(self.stages):
            for index in range(convolutions):
                x = Conv(width, use_bias=True, name=f"conv{stage + 1}_{index}")(x)
                x = relu(batch_norm(train, f"bn{stage + 1}_{index}")(x))
            x = max_pool(x)
        return x.mean(axis=(1, 2))
