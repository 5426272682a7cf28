"""Vision transformers for CIFAR-sized images, as this field's evaluations take them (lafeat/apbench).

Sources of both forms are kentaroy47/vision-transformers-cifar10 and, for its layers, lucidrains/vit-pytorch. Attention
heads have 64 channels; positions, class token and the mixing of heads start from a standard normal, Dense layers from
Flax's LeCun normal. Dropout is that of the sources, after the embedding and in every layer. Height and width must be
multiples of the patch.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from ugejax.networks.classifier import Classifier
from ugejax.networks.dense import Dense
from ugejax.networks.tokens import FeedForward, LayerNorm, tokens_of

PATCH = 4
DROPOUT = 0.1
HEAD = 64


def vit_small(num_classes: int) -> Classifier:
    """The ViT-small of this field's tables: patch 4, width 512, 6 layers of 8 heads and 512 hidden units.

    The form for small sets: shifted patches (by one pixel along each axis, as in the source; the paper shifts by half a
    patch along the diagonals) and locality self-attention. A class token, dropout 0.1. 9,622,512 parameters for 32x32
    RGB images and 10 classes.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; Lee et al., Vision Transformer for Small-Size
        Datasets, arXiv 2112.13492; configuration of `vit_small` in kentaroy47/vision-transformers-cifar10.
    """
    return Classifier(ViTBody(width=512, depth=6, heads=8, hidden=512), num_classes)


def cait_small(num_classes: int) -> Classifier:
    """The CaiT-small of this field's tables: patch 4, width 512, 6 + 2 layers of 6 heads and 256 hidden units.

    Six layers among the patches and two in which the class token attends to them, talking heads, layer scale from 0.1,
    dropout 0.1. The source also leaves out whole layers at random (rate 0.05), when it evaluates as well; here all are
    kept. 8,488,522 parameters for 32x32 RGB images and 10 classes.

    References:
        Touvron et al., Going Deeper with Image Transformers, ICCV 2021; configuration of `cait_small` in
        kentaroy47/vision-transformers-cifar10.
    """
    return Classifier(CaiTBody(width=512, depth=6, class_depth=2, heads=6, hidden=256), num_classes)


class ViTBody(nn.Module):
    """Embedding of shifted patches, class token, pre-norm layers; features [B, width] are the class token's.

    Attributes:
        width: channels of a token.
        depth: number of layers.
        heads: of the attention.
        hidden: units of the feed-forward layers.
    """

    width: int
    depth: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: the patches do not tile x.
        """
        x = tokens_of(jnp.concatenate([x, *shifted(x)], axis=-1), PATCH)
        x = Dense(self.width, name="embedding")(LayerNorm(name="embedding_norm")(x))
        token = self.param("class_token", nn.initializers.normal(1.0), (1, 1, self.width)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(1.0), (1, *x.shape[1:])).astype(x.dtype)
        x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        for layer in range(self.depth):
            y = LayerNorm(name=f"attention_norm_{layer}")(x)
            x = x + LocalitySelfAttention(self.heads, name=f"attention_{layer}")(y, train)
            y = LayerNorm(name=f"feed_forward_norm_{layer}")(x)
            x = x + FeedForward(self.hidden, DROPOUT, name=f"feed_forward_{layer}")(y, train)
        return LayerNorm(name="norm")(x[:, 0])


class CaiTBody(nn.Module):
    """Embedding of patches, layers among them, class-attention layers; features [B, width] are the class token's.

    Attributes:
        width: channels of a token.
        depth: number of layers among the patches.
        class_depth: number of layers in which the class token alone changes.
        heads: of the attention.
        hidden: units of the feed-forward layers.
    """

    width: int
    depth: int
    class_depth: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [B, D] of normalised images x [B, H, W, C]; `train` as in `Classifier.features`.

        Raises:
            UserError: the patches do not tile x.
        """
        x = Dense(self.width, name="embedding")(tokens_of(x, PATCH))
        x = x + self.param("positions", nn.initializers.normal(1.0), (1, *x.shape[1:])).astype(x.dtype)
        x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        for layer in range(self.depth):
            x = CaiTLayer(self.heads, self.hidden, name=f"layer_{layer}")(x, None, train)
        token = self.param("class_token", nn.initializers.normal(1.0), (1, 1, self.width)).astype(x.dtype)
        token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
        for layer in range(self.class_depth):
            token = CaiTLayer(self.heads, self.hidden, name=f"class_layer_{layer}")(token, x, train)
        return LayerNorm(name="norm")(token[:, 0])


class CaiTLayer(nn.Module):
    """Attention and feed-forward layer, each behind a layer norm and before a learned scale per channel, from 0.1."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None, train: bool) -> jax.Array:
        """Maps tokens x [B, N, D] to [B, N, D]; they attend to themselves and to tokens `context` [B, M, D], if any."""
        scales = [
            self.param(name, nn.initializers.constant(0.1), x.shape[-1:]).astype(x.dtype)
            for name in ("attention_scale", "feed_forward_scale")
        ]
        y = LayerNorm(name="attention_norm")(x)
        x = x + scales[0] * TalkingHeadsAttention(self.heads, name="attention")(y, context, train)
        y = LayerNorm(name="feed_forward_norm")(x)
        return x + scales[1] * FeedForward(self.hidden, DROPOUT, name="feed_forward")(y, train)


class LocalitySelfAttention(nn.Module):
    """Attention of tokens to all others but themselves, at a learned temperature (Lee et al., section 3.2)."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps tokens x [B, N, D] to [B, N, D], N at least 2."""
        q, k, v = _heads(Dense(3 * self.heads * HEAD, use_bias=False, name="to_qkv")(x), self.heads)
        # The logarithm of what the scores are multiplied by.
        temperature = self.param("temperature", nn.initializers.constant(-math.log(HEAD) / 2), ())
        scores = jnp.einsum("bihd,bjhd->bhij", q, k) * jnp.exp(temperature)
        scores = jnp.where(jnp.eye(x.shape[1], dtype=bool), jnp.finfo(scores.dtype).min, scores)
        return _attended(nn.softmax(scores), v, x.shape[-1], train)


class TalkingHeadsAttention(nn.Module):
    """Attention whose heads are mixed before and after the softmax (Shazeer et al., arXiv 2003.02436)."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None, train: bool) -> jax.Array:
        """Maps tokens x [B, N, D] to [B, N, D]; they attend to themselves and to `context` [B, M, D], if any."""
        attended = x if context is None else jnp.concatenate([x, context], axis=1)
        (q,) = _heads(Dense(self.heads * HEAD, use_bias=False, name="to_q")(x), self.heads)
        k, v = _heads(Dense(2 * self.heads * HEAD, use_bias=False, name="to_kv")(attended), self.heads)
        before, after = (
            self.param(name, nn.initializers.normal(1.0), (self.heads, self.heads))
            for name in ("mix_before", "mix_after")
        )
        scores = jnp.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(HEAD)
        weights = nn.softmax(jnp.einsum("bhij,hg->bgij", scores, before))
        return _attended(jnp.einsum("bhij,hg->bgij", weights, after), v, x.shape[-1], train)


def shifted(x: jax.Array) -> list[jax.Array]:
    """Images x [B, H, W, C] moved by one pixel to the right, the left, downwards and upwards, zeros moving in."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]]


def _heads(x: jax.Array, heads: int) -> list[jax.Array]:
    """Projections side by side, [B, N, count * heads * HEAD], as a list of [B, N, heads, HEAD]."""
    x = x.reshape(*x.shape[:2], -1, heads, HEAD)
    return [x[:, :, index] for index in range(x.shape[2])]


def _attended(weights: jax.Array, v: jax.Array, width: int, train: bool) -> jax.Array:
    """What weights [B, heads, N, M] take from values v [B, M, heads, HEAD], projected to [B, N, width]."""
    # Scores and softmax are float32 by their parameters, whatever the tokens are.
    y = jnp.einsum("bhij,bjhd->bihd", weights.astype(v.dtype), v).reshape(v.shape[0], weights.shape[2], -1)
    return nn.Dropout(DROPOUT, deterministic=not train)(Dense(width, name="to_out")(y))
