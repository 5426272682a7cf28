"""A hacker who trains a network to undo a perturbation, on pairs of images before and after it, and applies it.

The strongest who knows the method makes the pairs himself: he protects natural images of his own, under keys of his
own, with the settings that the release's card tells. Another has pairs that leaked. So does BridgePure (NeurIPS 2025,
arXiv 2412.21061), with a diffusion bridge. Here a small residual U-Net and a mean square error stand for it, which
train in minutes on a CPU; no details are drawn that the network does not see.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ugejax.batches import at_a_time, in_pieces
from ugejax.compiler import compiled, kept
from ugejax.countermeasures.hacker_data import HackerData, Pairs, to_uint8
from ugejax.errors import UserError
from ugejax.training import decode

WIDTH = 32  # channels of every layer
STEPS = 2000
BATCH = 64
LEARNING_RATE = 2e-3  # of Adam, the peak of one cycle


class Restorer(nn.Module):
    """A U-Net of ten 3x3 convolutions on three scales, the coarsest a quarter of the side: it sees over 30 pixels.

    Attributes:
        width: channels of every layer.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """What is to be added to images x, float [B, H, W, C]; without training, zero."""

        def layer(y: jax.Array, stride: int = 1) -> jax.Array:
            return nn.relu(nn.Conv(self.width, (3, 3), strides=stride)(y))

        def twice(y: jax.Array) -> jax.Array:
            return y.repeat(2, axis=1).repeat(2, axis=2)

        h, w, channels = x.shape[1:]
        whole = jnp.pad(x - 0.5, ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0)), mode="edge")
        fine = layer(layer(whole))
        middle = layer(layer(fine, 2))
        coarse = layer(layer(middle, 2))
        middle = layer(jnp.concatenate([twice(coarse), middle], axis=-1))
        fine = layer(jnp.concatenate([twice(middle), fine], axis=-1))
        change = nn.Conv(channels, (3, 3), kernel_init=nn.initializers.zeros)(layer(fine))
        return change[:, :h, :w]


def purify_by_own_pairs(data: HackerData) -> HackerData:
    """All images as a network restores them that was trained on pairs of the hacker's own.

    Raises:
        UserError: nobody knows how the release was made.
    """
    if data.own_pairs is None:
        raise UserError("learned-purifier needs to know how the release was made")
    return _purified(data, data.own_pairs())


def purify_by_leaked_pairs(data: HackerData) -> HackerData:
    """All images as a network restores them that was trained on the originals that the hacker holds."""
    return _purified(data, Pairs(to_uint8(data.clean_images), to_uint8(data.images[data.clean_indices])))


def _purified(data: HackerData, pairs: Pairs) -> HackerData:
    params = train_restorer(pairs, data.seed)
    return data.with_all_images(lambda images: restored(params, images))


@functools.lru_cache(maxsize=1)  # the clean control has the same pairs of the hacker's own
def train_restorer(pairs: Pairs, seed: int) -> dict:
    """Weights of a `Restorer` that was trained on pairs; initial weights and the batches follow from the seed."""
    count, (start, step) = len(pairs.originals), _programs(WIDTH, STEPS, LEARNING_RATE)
    params, state = start(jax.random.key(seed), jnp.zeros((1, *pairs.originals.shape[1:])))
    size, rng = min(at_a_time(pairs.originals.shape[1:], most=BATCH), count), np.random.default_rng(seed)
    for _ in range(STEPS):
        batch = rng.choice(count, size, replace=False)
        params, state = step(params, state, pairs.originals[batch], pairs.released[batch])
    return params


@kept
def _programs(width: int, steps: int, learning_rate: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What a training runs: (key, image) -> weights and optimizer state, and (both, originals, released) -> both."""
    module = Restorer(width)
    optimizer = optax.adam(optax.cosine_onecycle_schedule(max(steps, 10), learning_rate))

    def start(key, x):
        params = module.init(key, x)
        return params, optimizer.init(params)

    def step(params, state, originals, released):
        x, x_u = decode(originals), decode(released)
        gradient = jax.grad(lambda params: jnp.square(x_u + module.apply(params, x_u) - x).mean())(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(start), compiled(step)


def restored(params: dict, images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] with the change that a `Restorer` of those weights makes, float32 in [0, 1]."""
    run, size = _restorer(WIDTH), at_a_time(images.shape[1:], most=500)
    parts = in_pieces(lambda part, _: np.asarray(run(params, jnp.asarray(decode(images[part])))), len(images), size)
    return np.concatenate([part for _, part in parts])


@functools.cache
def _restorer(width: int) -> Callable[[dict, jax.Array], jax.Array]:
    return compiled(lambda params, x: jnp.clip(x + Restorer(width).apply(params, x), 0, 1))
