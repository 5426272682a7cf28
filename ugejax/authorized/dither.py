"""`keyed-dither`: quantisation with a secret dither per image; its blind set is the quantisation cell of every pixel.

v(x) = Q(x + u) - u, subtractive dithered quantisation with step D on the 8-bit grid, where the dither u in {0..D-1}
of every value is pseudo-random, keyed by the secret and by the content of the image itself: a few secret *anchor*
pixels that no perturbation touches. The perturbed image may move anywhere inside its cells and v does not change, in
exact integer arithmetic, hence with no leak by clipping or rounding. In each value the cell leaves the perturbation an
interval of length (D - 1)/255 placed at random, at every frequency alike, and photographs do not share a dither, so
the release carries no subspace, histogram or covariance that is common to its images and would tell the key. Images
that agree in every anchor do share one, as drawings on a blank ground may.

Our choice, not the paper's. Dithered quantisers as a secret code: Chen & Wornell, "Quantization index modulation", IEEE
Transactions on Information Theory 47(4), 2001.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DitherView:
    """A dithered quantiser whose dither follows from a secret and from the image's anchor pixels.

    Attributes:
        secret: uint32 [4], the 128 bits that key the dither.
        anchors: int32 [A], flat positions (row * W + column) of the pixels that the dither follows from.
        step: D, the step of the quantiser in grey levels of 8 bits.
    """

    secret: jax.Array = field(repr=False)
    anchors: jax.Array = field(repr=False)
    step: int = field(metadata={"static": True})

    @property
    def blind(self) -> bool:
        """True: the cells."""
        return True

    @property
    def patch(self) -> None:
        """None: only bounds confine a perturbation."""
        return None

    def dither(self, x: jax.Array) -> jax.Array:
        """The secret dither u of each image, int32 [..., H, W, C] in {0, ..., step - 1}."""
        levels = to_levels(x)
        flat = levels.reshape(-1, *levels.shape[-3:])
        return jax.vmap(self._dither_of_one)(flat).reshape(levels.shape)

    def _dither_of_one(self, levels: jax.Array) -> jax.Array:
        pixels = levels.reshape(-1, levels.shape[-1])[self.anchors]
        words = (pixels * 256 ** jnp.arange(pixels.shape[-1])).sum(axis=-1)
        # Each word goes through both halves of the secret in turn: a chain of the cipher behind JAX's PRNG
        # (Threefry-2x32).
        secrets = self.secret.reshape(2, 2)
        key = jax.random.wrap_key_data(secrets[0], impl="threefry2x32")
        key = jax.lax.fori_loop(0, words.shape[0], lambda i, k: jax.random.fold_in(k, words[i]), key)
        key = jax.random.fold_in(jax.random.fold_in(key, secrets[1, 0]), secrets[1, 1])
        return jax.random.randint(key, levels.shape, 0, self.step)

    def _cells(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The levels of x, and the lowest level of each cell and its dither, all int32."""
        levels, dither = to_levels(x), self.dither(x)
        return levels, (levels + dither) // self.step * self.step - dither, dither

    def apply(self, x: jax.Array) -> jax.Array:
        """The middle of each value's cell; the gradient is zero everywhere."""
        _, lowest, _ = self._cells(x)
        return jnp.clip((lowest + (self.step - 1) / 2) / 255, 0, 1)

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """The perturbation itself: only the bounds confine it."""
        return delta

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cell of each value, and no room at all for the anchor pixels."""
        levels, lowest, _ = self._cells(x)
        h, w, _ = x.shape[-3:]
        free = jnp.ones(h * w, bool).at[self.anchors].set(False).reshape(h, w, 1)
        lower, upper = lowest - levels, lowest + self.step - 1 - levels
        return jnp.where(free, lower, 0) / 255, jnp.where(free, upper, 0) / 255


def to_levels(x: jax.Array) -> jax.Array:
    """Images in [0, 1] as int32 levels of 8 bits."""
    return jnp.round(jnp.asarray(x) * 255).astype(jnp.int32)


def dither_view(key: jax.Array, shape: tuple[int, int, int], *, step: int = 16, anchors: int = 16) -> DitherView:
    """Draw the secret of a dithered quantiser.

    Args:
        key: secret PRNG key.
        shape: (H, W, C) of the images.
        step: step of the quantiser in grey levels; a perturbation of one sign and of e levels keeps the share
            1 - e / (2 step) of itself on average.
        anchors: number of pixels that stay untouched and determine the dither of their image.
    """
    h, w, _ = shape
    secret_key, anchor_key = jax.random.split(key)
    positions = jax.random.permutation(anchor_key, h * w)[:anchors]
    return DitherView(jax.random.bits(secret_key, (4,), jnp.uint32), positions.astype(jnp.int32), step)
