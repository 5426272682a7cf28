"""A code that is placed: a class's small pattern in bands of tiles across each image, each with a random sign.

Signs and places follow from a secret and the image's index, so that the mean perturbation of a class is nothing that
could be subtracted, and the patterns are drawn such that all have nearly one autocorrelation, so that second moments
tell little of the class either. What tells it is in the shape of the pattern alone, which a network finds in the
aggregate over an image: quickly where the pattern is as small as what its first layers see. Our choice, not the
paper's.
"""

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ugejax.training.step import Batch
from ugejax.views.derive import Keystream, derive
from ugejax.views.prf import below, blake2s, chacha20

# Patterns that are drawn for each that is chosen, and exchanges of two signs that are tried on each.
_DRAWN, _EXCHANGES = 4, 400
# Largest cross-correlation of two patterns at any shift, mirrored or not; by how much it rises where too few differ.
_LIKE, _MORE = 0.55, 0.05


@flax.struct.dataclass
class PlacedState:
    """What a placed code is made from.

    Attributes:
        patterns: float32 [K, m, k, k] of size 1: m patterns for each class.
        secret: uint32 [4], from which places and signs follow.
    """

    patterns: jax.Array
    secret: jax.Array


@dataclass(frozen=True)
class Placed:
    """Bands of tiles of patterns in one colour, which no gradient moves.

    A band is as high as a pattern. The first begins at a random row above the image, and each at a random column left
    of it. A tile is a pattern of the class, with a random sign, mirrored or not. A value is -eps, 0 or eps.

    Attributes:
        eps: budget of a value in units of [0, 1].
        colour: how much of it each channel gets, C numbers in [-1, 1].
        side: k, of a pattern in pixels.
        patterns: m, for each class.
        share: of the tiles that are laid; where none is a pixel stays as it is.
        cell: side of the squares that a pattern is made of, in pixels; divides `side`.
        label: of its own secrets, by which two codes of a sum differ in patterns, places and signs.
    """

    eps: float
    colour: tuple[float, ...]
    side: int = 4
    patterns: int = 1
    share: float = 1.0
    cell: int = 1
    label: str = "code"

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> PlacedState:
        """Patterns and the places' secret, both from a secret; of the texture [K, H, W, C] the shape alone is used."""
        count, own = len(texture) * self.patterns, derive(secret, self.label, 32)
        drawn = draw_patterns(own, count, side=self.side, cell=self.cell)
        shape = (len(texture), self.patterns, self.side, self.side)
        words = np.frombuffer(derive(own, "places", 16), "<u4").astype(np.uint32)
        return PlacedState(jnp.asarray(drawn.reshape(shape), jnp.float32), jnp.asarray(words))

    def wanted(self, noise: PlacedState, batch: Batch) -> jax.Array:
        """The signs of the tiles times eps and colour."""
        tiles = jax.vmap(self._tiles, in_axes=(None, 0, 0, None))(noise, batch.y, batch.index, batch.x.shape[1:3])
        return self.eps * tiles[..., None] * jnp.array(self.colour)

    def _tiles(self, noise: PlacedState, label: jax.Array, index: jax.Array, shape: tuple[int, int]) -> jax.Array:
        """The tiles of one image, [H, W]."""
        (h, w), k = shape, self.side
        bands, tiles = -(-h // k) + 1, -(-w // k) + 1
        message = index.astype(jnp.uint32) >> jnp.array([0, 8, 16, 24], jnp.uint32) & 0xFF
        # For each band two words of where it begins, and one of how each of its tiles looks.
        words = chacha20(blake2s(noise.secret, message), bands * (tiles + 2)).reshape(bands, tiles + 2)
        rows = jnp.arange(h) + below(words[0, 0], k)
        band = rows // k
        columns = jnp.arange(w) + below(words[:, 1], k)[band][:, None]
        looks = words[band[:, None], 2 + columns // k]
        sign = 1.0 - 2.0 * (looks & 1).astype(jnp.float32)
        column = jnp.where((looks >> 1 & 1).astype(bool), k - 1 - columns % k, columns % k)
        laid = (looks >> 8).astype(jnp.float32) * 2.0**-24 < self.share
        which = below(looks << 24, self.patterns)  # by bits of its own
        return noise.patterns[label][which, (rows % k)[:, None], column] * sign * laid

    def moved(
        self, noise: PlacedState, batch: Batch, delta: jax.Array, grad: jax.Array, project, axis_name: str | None = None
    ) -> PlacedState:
        """The same: optimised beside a class's texture, patterns are not learned any more once that is subtracted."""
        return noise


def draw_patterns(secret: bytes, count: int, *, side: int, cell: int = 1) -> np.ndarray:
    """Patterns of signs that differ in shape and in little else.

    Each has as many of either sign (but for one where their number is odd). Signs that are drawn are exchanged as long
    as that brings the pattern's autocorrelation nearer to a point, so that all have nearly the same. Of these, patterns
    are taken one after the other, unless one is too like another that was taken: at any shift, mirrored or not, with
    either sign.

    Args:
        secret: from which they follow, the same with every release of NumPy and JAX.
        count: how many.
        side: of a pattern in pixels.
        cell: side of the squares of equal sign in pixels; divides `side`.

    Returns:
        int8 [count, side, side] of -1 and 1.

    Raises:
        ValueError: `cell` does not divide `side`.
    """
    if side % cell:
        raise ValueError(f"cell={cell}: does not divide side={side}")
    cells, stream = side // cell, Keystream(secret, "patterns")
    signs = _nearly_white(stream, _DRAWN * count, cells).reshape(-1, cells, cells)
    spectra, mirrored = (_spectra(some) for some in (signs, signs[..., ::-1]))
    taken: list[int] = []
    free, likeness = np.ones(len(signs), bool), np.zeros(len(signs), np.int64)  # to those that were taken, the largest
    limit = _LIKE
    while len(taken) < count:
        for candidate in range(len(signs)):
            if len(taken) == count:
                break
            if free[candidate] and likeness[candidate] <= limit * cells**2:
                taken.append(candidate)
                free[candidate] = False
                for other in (spectra[candidate], mirrored[candidate]):
                    likeness = np.maximum(likeness, np.abs(_correlation(spectra, other)).max(axis=(1, 2)))
        limit += _MORE
    return signs[taken].repeat(cell, axis=1).repeat(cell, axis=2)


def _nearly_white(stream: Keystream, count: int, side: int) -> np.ndarray:
    """Balanced signs int8 [count, side * side] whose autocorrelation was brought near to a point."""
    size = side * side
    order = np.argsort(stream.words(count * size, "<u8").reshape(count, size), axis=1, kind="stable")
    signs = np.where(order < size // 2, 1, -1).astype(np.int8)
    rows, energy = np.arange(count), _sidelobes(signs, side)
    for _ in range(_EXCHANGES):
        places = stream.words(2 * count).reshape(2, count).astype(np.int64) * size >> 32
        tried = signs.copy()
        tried[rows, places[0]], tried[rows, places[1]] = signs[rows, places[1]], signs[rows, places[0]]
        found = _sidelobes(tried, side)
        signs, energy = np.where((found < energy)[:, None], tried, signs), np.minimum(found, energy)
    return signs


def _sidelobes(signs: np.ndarray, side: int) -> np.ndarray:
    """The sum of squares of a pattern's autocorrelation but at its centre, int64 [N], of signs [N, side * side]."""
    spectra = _spectra(signs.reshape(-1, side, side))
    return np.square(_correlation(spectra, spectra)).sum(axis=(1, 2)) - side**4


def _spectra(patterns: np.ndarray) -> np.ndarray:
    # In the frequencies of twice the side no shift wraps round.
    return np.fft.rfft2(patterns, (2 * patterns.shape[-1],) * 2)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation at every shift, int64 [N, 2 side, 2 side]: whole numbers, hence exact once they are rounded."""
    return np.rint(np.fft.irfft2(a * b.conj(), (a.shape[-2],) * 2)).astype(np.int64)
