"""A network that learns CIFAR-10 to 93 or 94 % in the fewest operations: whitened patches, three groups, max-pooling.

Its parts are those of the airbench family by their published description; the training that belongs to it is the recipe
of that name in `ugejax.training.recipe`. What differs from the source is said where it does.

References:
    Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498; KellerJordan/cifar10-airbench.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ugejax.networks.batch_norm import BatchNorm
from ugejax.networks.classifier import Classifier
from ugejax.networks.convolution import Conv
from ugejax.networks.pooling import max_pool
from ugejax.networks.sizes import require_side

gelu = functools.partial(nn.gelu, approximate=False)

# Added to the variances of the patches, so that what hardly varies is not blown up.
WHITENING_EPSILON = 5e-4
# What the features are divided by, and so the logits but for their bias.
SCALE = 9


def speedrun(num_classes: int) -> Classifier:
    """The network of the airbench family that gets 93 % on CIFAR-10: 24 whitening filters, groups of 64, 128, 128.

    A frozen 2x2 whitening convolution and GELU; three groups of 3x3 convolution, 2x2 max-pooling, batch norm, GELU,
    3x3 convolution, batch norm, GELU; 3x3 max-pooling, linear layer. Convolutions have no bias and begin as the
    identity (`dirac`), batch norm has no scale. Images must be at least 2x2: see `SpeedrunBody` for where small maps
    are not halved. 568,714 parameters for 10 classes.

    The whitening filters are no parameters: they are made from the images that the network is trained on, when that
    begins (`ugejax.training.prepared`). Until then they pass the patches on as they are.
    """
    return Classifier(SpeedrunBody((64, 128, 128)), num_classes)


def speedrun_wide(num_classes: int) -> Classifier:
    """`speedrun` with groups of 64, 256 and 256 channels, which gets 94 % on CIFAR-10; 1,971,338 parameters."""
    return Classifier(SpeedrunBody((64, 256, 256)), num_classes)


class SpeedrunBody(nn.Module):
    """The body of `speedrun`; features [B, width of the last group], divided by 9.

    Maps of fewer than four rows or columns are not halved along that axis, so 32x32 images end as 3x3 maps, and 8x8
    images too. The last pooling takes windows of 3x3, or what there is; of larger images the mean over the windows is
    taken.

    The whitening filters, float32 [4C, 4C], stand in "batch_stats", since they are statistics of images: no optimizer
    moves them. A column is the filter of 2x2 pixels, row by row, with C channels each; with its negative it makes two
    channels.

    Attributes:
        widths: channels of each group.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: x has less than 2x2 pixels.
        """
        require_side(x, 2, "speedrun")
        filters = self.variable("batch_stats", "filters", jnp.eye, 4 * x.shape[-1])
        x = patches(x) @ filters.value.astype(x.dtype)
        x = gelu(jnp.concatenate([x, -x], axis=-1))
        for group, width in enumerate(self.widths, 1):
            window = (2 if x.shape[1] >= 4 else 1, 2 if x.shape[2] >= 4 else 1)
            x = Conv(width, kernel_init=dirac, even=window == (2, 2), name=f"conv{group}_1")(x)
            x = gelu(_batch_norm(train, f"bn{group}_1")(max_pool(x, window)))
            x = Conv(width, kernel_init=dirac, name=f"conv{group}_2")(x)
            x = gelu(_batch_norm(train, f"bn{group}_2")(x))
        return max_pool(x, (min(3, x.shape[1]), min(3, x.shape[2]))).mean(axis=(1, 2)) / SCALE

    @nn.nowrap
    def prepare(self, statistics: dict[str, Any], pieces: Iterable[jax.Array]) -> dict[str, Any]:
        """The body's "batch_stats" with filters that whiten the patches of normalised images [n, H, W, C], in pieces.

        Filters that were made before stay, and the images are not looked at.
        """
        filters = np.asarray(statistics["filters"])
        if not np.array_equal(filters, np.eye(len(filters))):
            return statistics
        return {**statistics, "filters": whitening_filters(pieces)}


def patches(x: jax.Array) -> jax.Array:
    """All 2x2 patches of maps x [B, H, W, C]: [B, H - 1, W - 1, 4C], pixels row by row."""
    return jnp.concatenate([x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]], axis=-1)


@jax.jit
def _moments(x: jax.Array) -> jax.Array:
    """The sum of p p^T over the patches p of x, [4C, 4C]."""
    p = patches(x).reshape(-1, 4 * x.shape[-1])
    return jnp.matmul(p.T, p, precision=jax.lax.Precision.HIGHEST)


def whitening_filters(pieces: Iterable[jax.Array]) -> jax.Array:
    """Filters under which the 2x2 patches of images are uncorrelated and of mean square 1.

    W = V (L + eps)^(-1/2), of the second moments E[p p^T] = V L V^T, eps = 5e-4. Each column's largest entry is
    positive, so that the filters do not depend on the signs that a library gives eigenvectors.

    Args:
        pieces: normalised images, float [n, H, W, C] each, together at least one.

    Returns:
        float32 [4C, 4C], the direction of the least variance first.
    """
    total, count = 0.0, 0
    for x in pieces:
        total = total + np.asarray(_moments(x), np.float64)
        count += len(x) * (x.shape[1] - 1) * (x.shape[2] - 1)
    values, vectors = np.linalg.eigh(total / count)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    # Rounding may leave a variance that is 0 just below it.
    return jnp.asarray(vectors * np.sign(largest) / np.sqrt(np.maximum(values, 0) + WHITENING_EPSILON), jnp.float32)


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))  # one program in place of one for every operation
def dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """An initial kernel [k, k, I, F], k odd, that passes its input on: output i is input i for the first min(I, F).

    Further outputs are uniform in +-1 / sqrt(k k I), PyTorch's default.
    """
    side, _, inputs, features = shape
    limit = 1 / np.sqrt(side * side * inputs)
    kernel = jax.random.uniform(key, shape, dtype, -limit, limit)
    same = min(inputs, features)
    identity = jnp.zeros((side, side, inputs, same), dtype).at[side // 2, side // 2].set(jnp.eye(inputs, same))
    return kernel.at[..., :same].set(identity)


def _batch_norm(train: bool, name: str) -> BatchNorm:
    """Batch norm without scale, of the family's momentum 0.6.

    Its epsilon is 1e-5 in place of 1e-12: of grey images with three channels some filters see rounding alone, which
    would be blown up to variance 1.
    """
    return BatchNorm(use_running_average=not train, momentum=0.6, epsilon=1e-5, use_scale=False, name=name)
