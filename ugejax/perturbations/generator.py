"""The generator: a network that writes the perturbation of an image in one forward pass, also of images it never saw.

    delta = eps tanh(G(x, s_y)),  G(x, s) = gain s + h(x, s)

s_y is the secret texture of the image's class, from which the free noise starts as well, in units of the budget, and h
a small fully convolutional network whose last layer is zero at first: an untrained generator gives the texture itself.
The label enters by the texture alone. A generator without it would have to classify the images first, and err, though
a release has labels anyway.

Source: the paper (Ye & Wang, CVPR 2024, arXiv 2404.14016) names the generator; its architecture and the texture as its
input are our choice.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.networks.convolution import Conv

GAIN = 2.0  # tanh(2) = 0.964: the texture at nearly its full budget, and a slope left to train by
BLOCKS = 2


class Generator(nn.Module):
    """G: a 3x3 convolution, residual blocks of two, and a convolution back to the image's channels, without norm.

    An element depends on 13x13 pixels of image and texture, whatever the image's size.

    Attributes:
        width: channels of the hidden maps.
    """

    width: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, texture: jax.Array) -> jax.Array:
        """G(x, s), float [B, H, W, C], of images x [B, H, W, C] in [0, 1] and their classes' textures, shaped alike."""
        z = Conv(self.width, use_bias=True)(jnp.concatenate([4 * x - 2, texture], axis=-1))
        for _ in range(BLOCKS):
            residual = Conv(self.width, use_bias=True)(nn.relu(z))
            z = z + Conv(self.width, use_bias=True)(nn.relu(residual))
        last = nn.Conv(x.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, name="last")
        return GAIN * texture + last(nn.relu(z))
