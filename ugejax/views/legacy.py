"""How keys of ugejax 0.1 derived their views, so that their releases can be read and evaluated; none is made any more.

A view followed from one JAX key of 64 bits, and a dither from that and the anchors alone, whatever the release.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ugejax.views.content import ContentView
from ugejax.views.dither import DitheredQuantiser, anchors_of, given_step
from ugejax.views.identity import IdentityView
from ugejax.views.linear import PATCH, LinearView
from ugejax.views.view import View


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ThreefryView(DitheredQuantiser):
    """A quantiser whose dither is drawn by JAX's generator, without the salt of a release."""

    def dither_of_one(self, levels: jax.Array) -> jax.Array:
        """Drawn under a JAX key that secret and anchors were folded into, one after the other."""
        pixels = levels.reshape(-1, levels.shape[-1])[self.anchors]
        words = (pixels * 256 ** jnp.arange(pixels.shape[-1])).sum(axis=-1)
        secrets = self.secret.reshape(2, 2)
        key = jax.random.wrap_key_data(secrets[0], impl="threefry2x32")
        key = jax.lax.fori_loop(0, words.shape[0], lambda i, k: jax.random.fold_in(k, words[i]), key)
        key = jax.random.fold_in(jax.random.fold_in(key, secrets[1, 0]), secrets[1, 1])
        return jax.random.randint(key, levels.shape, 0, self.step)


def _dither(key: jax.Array, shape: tuple[int, int, int], step: int | None) -> View:
    secret_key, anchor_key = jax.random.split(key)
    positions = jax.random.permutation(anchor_key, shape[0] * shape[1])[: anchors_of(shape)]
    return ThreefryView(jax.random.bits(secret_key, (4,), jnp.uint32), positions.astype(jnp.int32), given_step(step))


def _linear(key: jax.Array, shape: tuple[int, int, int], step: int | None) -> View:
    h, w, c = shape
    n = PATCH * PATCH * c
    gaussian = jax.random.normal(key, ((h // PATCH) * (w // PATCH), n, max(1, round(n / 3))))
    return LinearView(jnp.linalg.qr(gaussian)[0], PATCH)


def _content(key: jax.Array, shape: tuple[int, int, int], step: int | None) -> View:
    h, w, c = shape
    pixels, count, subspaces = PATCH * PATCH, (h // PATCH) * (w // PATCH), 4
    basis_key, hash_key = jax.random.split(key)
    gaussian = jax.random.normal(basis_key, (subspaces, count, pixels, c, max(1, round(pixels * c / 3))))
    gaussian -= gaussian.mean(axis=2, keepdims=True)
    bases = jnp.linalg.qr(gaussian.reshape(subspaces, count, pixels * c, -1))[0]
    weights = jax.random.normal(hash_key, (subspaces, count * c))
    return ContentView(bases, weights - weights.mean(axis=1, keepdims=True), PATCH)


# (the key's JAX key for "view", (H, W, C), step of the quantiser or None) -> the view.
LEGACY_VIEWS: dict[str, Callable[[jax.Array, tuple[int, int, int], int | None], View]] = {
    "keyed-dither": _dither,
    "keyed-linear": _linear,
    "keyed-content": _content,
    "frozen-backbone": lambda *_: IdentityView(),
    "plain": lambda *_: IdentityView(),
}
