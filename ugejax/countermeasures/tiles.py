"""Tiles of a pattern on a lattice that nobody knows: where they lie in an image, with which sign, by Bayes' rule.

It is the model that who knows `ugejax.perturbations.codes` has of an image but for the secret: bands of tiles as high
as the pattern, the first of which begins at any row, each at any column; a tile is the pattern or its mirror image,
with either sign, or is not there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LOOKS = 2  # the pattern and its mirror image


class Laid(NamedTuple):
    """What is known of the tiles of images, with P = H + k - 1 and Q = W + k - 1 places where a tile can begin.

    Attributes:
        code: mean of the tiles, float [N, H, W], of patterns as they are given.
        cover: probability that a tile lies at a pixel, float [N, H, W].
        evidence: natural logarithm of how much likelier the images are with tiles than without, float [N].
        signs: for each place and look the probability of a tile less that of its negative, float [N, P, Q, LOOKS].
    """

    code: jax.Array
    cover: jax.Array
    evidence: jax.Array
    signs: jax.Array


def lay(
    weighted: jax.Array, pattern: jax.Array, *, amplitude: float, precision: float, share: float,
    subtracted: jax.Array | None = None,
) -> Laid:  # fmt: skip
    """The posterior of tiles, of which each is judged as if the others were noise.

    Args:
        weighted: images of which all that is no tile has the inverse covariance multiplied to, float [N, H, W].
        pattern: float [k, k].
        amplitude: of a tile.
        precision: of a pixel of the pattern alone: the mean of what the inverse covariance says of the pattern.
        share: of the tiles that are there.
        subtracted: `Laid.signs` of tiles that the images have lost already, so that each is judged beside what the
            others leave: its own share is added again.
    """
    looks = jnp.stack([pattern, pattern[:, ::-1]], axis=-1)
    scores = amplitude * _answers(weighted, looks)
    inside = jnp.ones_like(weighted[:1])  # of a tile that begins outside a part is in the image
    power = amplitude**2 * precision * _answers(inside, looks**2)
    if subtracted is not None:
        both = amplitude**2 * precision * _answers(inside, looks[..., :1] * looks[..., 1:])
        scores += power * subtracted + both * subtracted[..., ::-1]
    each = jnp.stack([scores, -scores], axis=-1) - power[..., None] / 2 + jnp.log(share / (2 * LOOKS))
    total = jnp.logaddexp(jnp.log1p(-share), jax.nn.logsumexp(each, axis=(-2, -1)))
    place, evidence = _places(total, len(pattern))
    tiles = place[..., None, None] * jnp.exp(each - total[..., None, None])
    signs = tiles[..., 0] - tiles[..., 1]
    cover = _spread(tiles.sum(axis=-1), jnp.ones_like(looks))
    return Laid(_spread(signs, looks), jnp.minimum(cover, 1), evidence, signs)


def sum_of_tiles(planes: jax.Array, signs: jax.Array, side: int) -> jax.Array:
    """The sum of all squares of planes [N, H, W] by the signs of `lay`, those of mirrored tiles mirrored: [k, k]."""
    _, pull_back = jax.vjp(lambda looks: _answers(planes, looks), jnp.zeros((side, side, LOOKS), planes.dtype))
    upright, mirrored = jnp.moveaxis(pull_back(signs)[0], -1, 0)
    return upright + mirrored[:, ::-1]


def _answers(planes: jax.Array, looks: jax.Array) -> jax.Array:
    """Inner products of looks [k, k, L] with every square that overlaps planes [N, H, W]: [N, P, Q, L]."""
    beyond = (len(looks) - 1,) * 2
    return _correlated(planes[..., None], looks[:, :, None], (beyond, beyond))


def _correlated(planes: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        planes, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )  # fmt: skip


def _places(total: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """Probability that a tile begins at a place [N, P, Q], and the evidence [N], of each place's evidence."""
    n, rows, columns = total.shape
    padded = jnp.pad(total, ((0, 0), (0, -rows % side), (0, -columns % side)))
    # Of each band, if it begins there, the evidence of each column that its tiles can begin at.
    across = padded.reshape(n, padded.shape[1], -1, side).sum(axis=2)
    band = jax.nn.logsumexp(across, axis=-1) - jnp.log(side)
    down = band.reshape(n, -1, side).sum(axis=1)
    evidence = jax.nn.logsumexp(down, axis=-1) - jnp.log(side)
    row, column = jax.nn.softmax(down), jax.nn.softmax(across[:, :rows])
    return row[:, jnp.arange(rows) % side, None] * column[:, :, jnp.arange(columns) % side], evidence


def _spread(amounts: jax.Array, looks: jax.Array) -> jax.Array:
    """The sum of looks [k, k, LOOKS] laid by amounts [N, P, Q, LOOKS], as far as it is in the image: [N, H, W]."""
    return _correlated(amounts, looks[::-1, ::-1, :, None], "VALID")[..., 0]
