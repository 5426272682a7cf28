"""Networks on patches without attention: layers that mix positions and layers that mix channels take turns.

Height and width must be multiples of the patch.
"""

import jax
from flax import linen as nn

from ugejax.networks.batch_norm import batch_norm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.dense import Dense
from ugejax.networks.tokens import FeedForward, LayerNorm, gelu, tokens_of


def convmixer(num_classes: int) -> Classifier:
    """ConvMixer-256/8 with patch 2 and kernel 5: depthwise convolutions with shortcuts and 1x1 convolutions, in turn.

    GELU, then batch norm after each; convolutions with biases. 594,186 parameters for RGB images and 10 classes.

    References:
        Trockman and Kolter, Patches Are All You Need?, TMLR 2023; the authors' CIFAR-10 form in
        locuslab/convmixer-cifar10.
    """
    return Classifier(ConvMixerBody(width=256, depth=8, kernel_size=5, patch=2), num_classes)


def mlp_mixer(num_classes: int) -> Classifier:
    """MLP-Mixer with patch 4, width 512 and 6 layers; perceptrons over the positions and over the channels, in turn.

    Four times as many hidden units as positions in the one, half as many as channels in the other; without dropout.
    1,819,530 parameters for 32x32 RGB images and 10 classes.

    References:
        Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021; configuration of `mlpmixer` in
        kentaroy47/vision-transformers-cifar10.
    """
    return Classifier(MLPMixerBody(width=512, depth=6, patch=4), num_classes)


class ConvMixerBody(nn.Module):
    """Embedding of patches, layers of a depthwise and a 1x1 convolution, mean over positions; features [B, width].

    Attributes:
        width: channels.
        depth: number of layers.
        kernel_size: odd side of the depthwise kernels.
        patch: side of a patch.
    """

    width: int
    depth: int
    kernel_size: int
    patch: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: the patches do not tile x.
        """
        batch, height, width, _ = x.shape
        x = Dense(self.width, name="embedding")(tokens_of(x, self.patch))
        x = batch_norm(train, "embedding_norm")(gelu(x))
        x = x.reshape(batch, height // self.patch, width // self.patch, self.width)
        for layer in range(self.depth):
            y = Conv(self.width, self.kernel_size, use_bias=True, groups=self.width, name=f"depthwise_{layer}")(x)
            x = x + batch_norm(train, f"depthwise_norm_{layer}")(gelu(y))
            y = Conv(self.width, kernel_size=1, use_bias=True, name=f"pointwise_{layer}")(x)
            x = batch_norm(train, f"pointwise_norm_{layer}")(gelu(y))
        return x.mean(axis=(1, 2))


class MLPMixerBody(nn.Module):
    """Embedding of patches, layers of two perceptrons, mean over positions; features [B, width].

    Attributes:
        width: channels of a token.
        depth: number of layers.
        patch: side of a patch.
    """

    width: int
    depth: int
    patch: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` changes nothing.

        Raises:
            UserError: the patches do not tile x.
        """
        x = Dense(self.width, name="embedding")(tokens_of(x, self.patch))
        for layer in range(self.depth):
            y = LayerNorm(name=f"positions_norm_{layer}")(x).swapaxes(1, 2)
            x = x + FeedForward(4 * x.shape[1], name=f"positions_{layer}")(y, train).swapaxes(1, 2)
            y = LayerNorm(name=f"channels_norm_{layer}")(x)
            x = x + FeedForward(self.width // 2, name=f"channels_{layer}")(y, train)
        return LayerNorm(name="norm")(x).mean(axis=1)
