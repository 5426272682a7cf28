"""`keyed-dither`: quantisation with a secret dither per image; its blind set is the quantisation cell of every pixel.

v(x) = S(Q(x + u) - u), subtractive dithered quantisation with step D on the 8-bit grid, where the dither u in {0..D-1}
of every value is pseudo-random, keyed by the secret, by the salt of the release and by the content of the image itself:
a few secret *anchor* pixels that no perturbation touches. The perturbed image may move anywhere inside its cells and v
does not change, in exact integer arithmetic, hence with no leak by clipping or rounding. In each value the cell leaves
the perturbation an interval of length (D - 1)/255 placed at random, at every frequency alike, and photographs do not
share a dither, so the release carries no subspace, histogram or covariance that is common to its images and would tell
the key. S smooths the quantiser's noise in colour, of which photographs have little at high frequencies: the channels'
differences from their mean are blurred, and each value is brought back into its cell. Images of one release that agree
in every anchor do share a dither, as drawings on a blank ground may; those of another release never do.

Our choice, not the paper's. Dithered quantisers as a secret code: Chen & Wornell, "Quantization index modulation", IEEE
Transactions on Information Theory 47(4), 2001.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.errors import UserError
from ugejax.views.derive import Keystream, derive
from ugejax.views.form import Form
from ugejax.views.prf import below, blake2s, chacha20
from ugejax.views.view import Export, View

_PYTORCH = Path(__file__).parent / "pytorch" / "dither.py.txt"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DitheredQuantiser(View):
    """A quantiser whose dither follows from a secret and from the image's anchor pixels.

    Attributes:
        secret: uint32 [4], the 128 bits that key the dither.
        anchors: int32 [A], flat positions (row * W + column) of the pixels that the dither follows from.
        step: D, the step of the quantiser in grey levels of 8 bits.
    """

    secret: jax.Array = field(repr=False)
    anchors: jax.Array = field(repr=False)
    step: int = field(metadata={"static": True})

    blind = True

    def dither(self, x: jax.Array) -> jax.Array:
        """The secret dither u of each image, int32 [..., H, W, C] in {0, ..., step - 1}."""
        return _dither(self, to_levels(x))

    @abstractmethod
    def dither_of_one(self, levels: jax.Array) -> jax.Array:
        """The dither of one image of int32 levels [H, W, C]; int32 of the same shape."""
        ...

    def _cells(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The levels of x, and the lowest level of each cell, both int32."""
        levels, dither = to_levels(x), self.dither(x)
        return levels, (levels + dither) // self.step * self.step - dither

    def apply(self, x: jax.Array) -> jax.Array:
        """The middle of each value's cell; the gradient is zero everywhere."""
        _, lowest = self._cells(x)
        return jnp.clip((lowest + (self.step - 1) / 2) / 255, 0, 1)

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cell of each value, and no room at all for the anchor pixels."""
        levels, lowest = self._cells(x)
        h, w, _ = x.shape[-3:]
        free = jnp.ones(h * w, bool).at[self.anchors].set(False).reshape(h, w, 1)
        lower, upper = lowest - levels, lowest + self.step - 1 - levels
        return jnp.where(free, lower, 0) / 255, jnp.where(free, upper, 0) / 255

    def export(self) -> Export:
        """`secret`, int64 [4], `anchors`, int64 [A], and `step`, int64 []; no module."""
        values = {"secret": self.secret, "anchors": self.anchors, "step": self.step}
        return Export({name: np.asarray(value, np.int64) for name, value in values.items()}, None)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DitherView(DitheredQuantiser):
    """A quantiser whose dither is that of one release: ChaCha20's keystream under a BLAKE2s tag of salt and anchors.

    Attributes:
        salt: uint32 [4], public, of the release whose images it sees; None where no release is known yet, and then it
            sees nothing.
    """

    salt: jax.Array | None = None

    salted = True

    def of_release(self, salt: bytes | None) -> Self:
        """The same quantiser for the images of a release with this salt of 16 bytes, or for none."""
        return replace(self, salt=None if salt is None else _words(salt))

    def apply(self, x: jax.Array) -> jax.Array:
        """A value in each value's cell, the middle but for colour, which is smoothed; the gradient is zero everywhere.

        In whole numbers up to the last division, so that no program rounds otherwise.
        """
        _, lowest = self._cells(x)
        lower, upper = jnp.clip(lowest, 0, 255), jnp.clip(lowest + self.step - 1, 0, 255)
        middle, channels = lower + upper, x.shape[-1]  # twice
        brightness = middle.sum(axis=-1, keepdims=True)
        colour = _blurred(_blurred(channels * middle - brightness))
        value = (256 * brightness + colour) / (512 * channels)
        return jnp.clip(value, lower, upper) / 255

    def dither_of_one(self, levels: jax.Array) -> jax.Array:
        """ChaCha20's words under the BLAKE2s tag of salt and anchors, each brought below the step."""
        pixels = levels.reshape(-1, levels.shape[-1])[self.anchors]
        salt = self._salt[:, None] >> jnp.array([0, 8, 16, 24], jnp.uint32) & 0xFF
        tag = blake2s(self.secret, jnp.concatenate([salt.reshape(-1), pixels.reshape(-1).astype(jnp.uint32)]))
        return below(chacha20(tag, levels.size), self.step).reshape(levels.shape)

    def export(self) -> Export:
        """As of every quantiser, and `salt`, int64 [4]."""
        arrays = super().export().arrays | {"salt": np.asarray(self._salt, np.int64)}
        return Export(arrays, _PYTORCH.read_text())

    @property
    def _salt(self) -> jax.Array:
        if self.salt is None:
            raise ValueError("the dither follows from the salt of a release, which was not given")
        return self.salt


@jax.jit  # one program also where nothing else is compiled, and not one for each operation of the ciphers
def _dither(view: DitheredQuantiser, levels: jax.Array) -> jax.Array:
    flat = levels.reshape(-1, *levels.shape[-3:])
    return jax.vmap(view.dither_of_one)(flat).reshape(levels.shape)


def _blurred(values: jax.Array) -> jax.Array:
    """16 times the blur of int32 [..., H, W, C]: a quarter of each value and three quarters of its neighbours' mean."""
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    inner = slice(1, -1)
    beside = padded[..., :-2, inner, :] + padded[..., 2:, inner, :]
    return 4 * values + 3 * (beside + padded[..., inner, :-2, :] + padded[..., inner, 2:, :])


def to_levels(x: jax.Array) -> jax.Array:
    """Images in [0, 1] as int32 levels of 8 bits."""
    return jnp.round(jnp.asarray(x) * 255).astype(jnp.int32)


def dither_view(
    secret: bytes, shape: tuple[int, int, int], *, salt: bytes | None = None, step: int = 16, anchors: int = 16
) -> DitherView:
    """Derive a dithered quantiser.

    Args:
        secret: from which its own secret and the places of the anchors follow.
        shape: (H, W, C) of the images.
        salt: 16 public bytes of the release that it is for; see `DitherView`.
        step: step of the quantiser in grey levels; a perturbation of one sign and of e levels keeps the share
            1 - e / (2 step) of itself on average.
        anchors: number of pixels that stay untouched and determine the dither of their image.
    """
    h, w, _ = shape
    positions = Keystream(secret, "anchors").permutation(h * w)[:anchors]
    view = DitherView(_words(derive(secret, "dither", 16)), jnp.asarray(positions, jnp.int32), step)
    return view.of_release(salt)


def _words(content: bytes) -> jax.Array:
    return jnp.asarray(np.frombuffer(content, "<u4").astype(np.uint32))


def _view(secret: bytes, shape: tuple[int, int, int], step: int | None) -> DitherView:
    return dither_view(secret, shape, step=given_step(step), anchors=anchors_of(shape))


def given_step(step: int | None) -> int:
    """The step of a key.

    Raises:
        UserError: it has none.
    """
    if step is None:
        raise UserError("keyed-dither: the key has no step, which a quantiser needs")
    return step


def anchors_of(shape: tuple[int, int, int]) -> int:
    """How many anchors a key has for images [H, W, C]: 16, or of small images an eighth of their pixels."""
    return max(1, min(16, shape[0] * shape[1] // 8))


def _default_step(eps: float) -> int:
    """3 eps, which leave a perturbation of one sign 5/6 of its budget on average; beyond 24 levels 2 eps, or 3/4 of it.

    A wide step costs the partner more than the perturbation has from it. At least 2 levels, which leave it anything.
    """
    levels = 255 * eps
    return min(255, max(2, round(2 * levels), min(24, round(3 * levels))))


KEYED_DITHER = Form(
    "keyed-dither",
    _view,
    exact=True,
    secret_part="each value is rounded after a secret offset, which follows from the key, the release's salt and the "
    "image's own content, is added",
    perturbation="anywhere within the cells of the rounding, exactly: stripes of yellow against blue for each class, "
    "and a small pattern of it in a few tiles at random places",
    default_step=_default_step,
    settings={"parametrisation": "codes"},
)
