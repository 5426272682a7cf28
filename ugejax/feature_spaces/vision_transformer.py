"""The vision transformers of CLIP and DINOv2, in the form and by the names of Hugging Face's `transformers`.

Both are pre-norm transformers with a class token. A submodule's path, joined by dots, is PyTorch's.

References:
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021; Oquab et al.,
    DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ugejax.networks.tokens import gelu, tokens_of

ZEROS = nn.initializers.zeros  # whatever: every weight is read


def quick_gelu(x: jax.Array) -> jax.Array:
    """``x sigmoid(1.702 x)``, the approximation in CLIP's published weights."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}


class LayerNames(NamedTuple):
    """What the parts of a layer are called; without `scales` they are not scaled per channel."""

    norms: tuple[str, str]
    projections: tuple[str, ...]  # of query, key, value and output
    scales: tuple[str, str] | None


CLIP_LAYER = LayerNames(
    ("layer_norm1", "layer_norm2"), tuple(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")), None
)
DINOV2_LAYER = LayerNames(
    ("norm1", "norm2"),
    (*(f"attention.attention.{part}" for part in ("query", "key", "value")), "attention.output.dense"),
    ("layer_scale1.lambda1", "layer_scale2.lambda1"),
)


class EncoderLayer(nn.Module):
    """Attention and feed-forward layer, each behind a layer norm.

    Attributes:
        names: of the parts.
        heads: of the attention.
        hidden: units of the feed-forward layer.
        activation: name in `ACTIVATIONS`.
        epsilon: of the layer norms.
    """

    names: LayerNames
    heads: int
    hidden: int
    activation: str
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens [B, N, D] to [B, N, D]."""
        x = x + self._scaled(self._attention(self._norm(x, 0)), 0)
        y = ACTIVATIONS[self.activation](nn.Dense(self.hidden, name="mlp.fc1")(self._norm(x, 1)))
        return x + self._scaled(nn.Dense(x.shape[-1], name="mlp.fc2")(y), 1)

    def _norm(self, x: jax.Array, index: int) -> jax.Array:
        return nn.LayerNorm(epsilon=self.epsilon, name=self.names.norms[index])(x)

    def _scaled(self, x: jax.Array, index: int) -> jax.Array:
        return x if self.names.scales is None else x * self.param(self.names.scales[index], ZEROS, x.shape[-1:])

    def _attention(self, x: jax.Array) -> jax.Array:
        *projections, output = (nn.Dense(x.shape[-1], name=name) for name in self.names.projections)
        return output(attend(*(projection(x) for projection in projections), heads=self.heads))


class ClipVisionTransformer(nn.Module):
    """CLIP's image tower with its projection into the space that images and texts share.

    Attributes:
        width: channels of a token.
        depth: number of layers.
        heads: of the attention.
        hidden: units of the feed-forward layers.
        patch: side of a patch in pixels.
        grid: patches along a side.
        projection: number of features.
        activation: name in `ACTIVATIONS`.
        epsilon: of the layer norms.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    grid: int
    projection: int
    activation: str = "quick_gelu"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, projection] of normalised images x [B, grid * patch, grid * patch, 3]."""
        at = "vision_model.embeddings"
        token = self.param(f"{at}.class_embedding", ZEROS, (self.width,))
        positions = self.param(f"{at}.position_embedding.weight", ZEROS, (1 + self.grid**2, self.width))
        x = nn.Dense(self.width, use_bias=False, name=f"{at}.patch_embedding")(tokens_of(x, self.patch))
        x = nn.LayerNorm(epsilon=self.epsilon, name="vision_model.pre_layrnorm")(_behind(token, x) + positions)
        for index in range(self.depth):
            name = f"vision_model.encoder.layers.{index}"
            x = EncoderLayer(CLIP_LAYER, self.heads, self.hidden, self.activation, self.epsilon, name=name)(x)
        x = nn.LayerNorm(epsilon=self.epsilon, name="vision_model.post_layernorm")(x[:, 0])
        return nn.Dense(self.projection, use_bias=False, name="visual_projection")(x)


class Dinov2(nn.Module):
    """DINOv2's transformer; features are the class token's.

    Attributes:
        width: channels of a token.
        depth: number of layers.
        heads: of the attention.
        hidden: units of the feed-forward layers.
        patch: side of a patch in pixels.
        grid: patches along a side in training, for which there are positions.
        activation: name in `ACTIVATIONS`.
        epsilon: of the layer norms.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    grid: int
    activation: str = "gelu"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, width] of normalised images x [B, H, W, 3], H and W multiples of the patch."""
        rows, columns = (side // self.patch for side in x.shape[1:3])
        token = self.param("embeddings.cls_token", ZEROS, (1, 1, self.width))[0, 0]
        positions = self.param("embeddings.position_embeddings", ZEROS, (1, 1 + self.grid**2, self.width))[0]
        first, of_patches = positions[:1], positions[1:].reshape(self.grid, self.grid, self.width)
        of_patches = jnp.einsum("rg,cf,gfd->rcd", bicubic(self.grid, rows), bicubic(self.grid, columns), of_patches)
        x = nn.Dense(self.width, name="embeddings.patch_embeddings.projection")(tokens_of(x, self.patch))
        x = _behind(token, x) + jnp.concatenate([first, of_patches.reshape(rows * columns, self.width)])
        for index in range(self.depth):
            name = f"encoder.layer.{index}"
            x = EncoderLayer(DINOV2_LAYER, self.heads, self.hidden, self.activation, self.epsilon, name=name)(x)
        return nn.LayerNorm(epsilon=self.epsilon, name="layernorm")(x[:, 0])


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, heads: int) -> jax.Array:
    """Scaled dot-product attention of projections q [B, N, D], k and v [B, M, D], their heads side by side."""
    q, k, v = (z.reshape(*z.shape[:2], heads, -1) for z in (q, k, v))
    weights = nn.softmax(jnp.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5)
    y = jnp.einsum("bhij,bjhd->bihd", weights, v)
    return y.reshape(*y.shape[:2], -1)


def bicubic(old: int, new: int) -> np.ndarray:
    """The matrix [new, old] of PyTorch's bicubic interpolation along an axis, without antialiasing.

    Its cubic has the parameter -0.75, where Pillow's and `jax.image.resize`'s have -0.5; edges are repeated.
    """
    places = (np.arange(new) + 0.5) * old / new - 0.5
    below = np.floor(places).astype(int)
    matrix = np.zeros((new, old), np.float32)
    for offset in (-1, 0, 1, 2):
        t = np.abs(places - below - offset)
        near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
        np.add.at(matrix, (np.arange(new), np.clip(below + offset, 0, old - 1)), np.where(t <= 1, near, far))
    return matrix


def _behind(token: jax.Array, x: jax.Array) -> jax.Array:
    """The class token [D] before the tokens [B, N, D] of each image."""
    return jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, x.shape[-1])), x], axis=1)
