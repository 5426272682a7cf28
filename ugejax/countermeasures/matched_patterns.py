"""Hackers who know how the code is laid, but not where: they estimate each tile of each image, and subtract it.

What they know is the program, with its defaults: which colour the code has, how large the tiles are, how many of
them are there. The pattern of a class is learned from the release, or taken from all originals, which no hacker has.
It costs minutes of a CPU, most of them for learning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.batches import at_a_time
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import TINY, Natural, natural_statistics, to_frequencies
from ugejax.countermeasures.spectrum import ENOUGH
from ugejax.countermeasures.tiles import lay, sum_of_tiles
from ugejax.perturbations.codes import Placed
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import Summed, parametrise
from ugejax.training import decode

AMPLITUDE = 6 / 255  # that the hacker expects of a code: the usual budget, less what cells take of it
MOST = 0.99  # of the tiles that he takes to be there
BATCH = 100
# Learning a pattern: so many random ones, on so many images, become better for so many steps; of these the best.
STARTS, FEW, SHORT = 12, 40, 6
FINALISTS, MANY, LONG = 2, 200, 8
LEAST = 3.0  # by how much likelier, as a logarithm, a pattern makes the images of its class than those of others


@dataclass(frozen=True, eq=False)
class View:
    """Images along a colour, with the inverse covariance of all that they hold multiplied to.

    Attributes:
        weighted: float32 [N, H, W].
        precision: the inverse covariance of the pixels of a square of k^2, float64 [k^2, k^2].
    """

    weighted: np.ndarray
    precision: np.ndarray

    def of(self, images: np.ndarray) -> "View":
        """The same of some of the images, by their indices or a mask."""
        return View(self.weighted[images], self.precision)

    def precision_of(self, pattern: np.ndarray) -> float:
        """The precision of a pattern [k, k], for each of its squares."""
        flat = pattern.reshape(-1).astype(np.float64)
        return float(flat @ self.precision @ flat / (flat @ flat))


def view_along(colour: np.ndarray, x: np.ndarray, natural: Natural, side: int) -> View:
    """Images x [N, H, W, C] along a colour [C], weighted by their own spectrum in the colours of natural images.

    The precision of a square of `side` pixels is that in the middle of the image.
    """
    spectrum, (h, w) = natural.spectrum(x), x.shape[1:3]
    variance = spectrum.var(axis=0) + TINY
    point = np.zeros((1, *x.shape[1:]), np.float32)
    point[0, h // 2, w // 2] = colour
    answer = natural.deviation(to_frequencies(point @ natural.colours) / variance)[0] @ colour
    rows, columns = np.divmod(np.arange(side * side), side)
    precision = answer[h // 2 + rows[:, None] - rows, w // 2 + columns[:, None] - columns]
    weighted = natural.deviation(spectrum / variance) @ colour
    return View(weighted.astype(np.float32), precision.astype(np.float64))


# (label, view of all images along the code's colour) -> pattern.
Find = Callable[[int, View], np.ndarray | None]


def subtract_known_patterns(data: HackerData) -> HackerData:
    """Subtract from every training image its tiles, whose pattern is known exactly: a bound.

    The pattern of a class is the commonest square of signs among the differences of its images from the originals, all
    of which he holds; their mean size in the channels of the code is the amplitude. Where tiles lie, and with which
    sign, he estimates from the released image alone. What the tiles leave has the mean of the differences of its class,
    which is subtracted too. Test images stay as they are.
    """
    x, code = decode(data.images), placed_code(data.images.shape[1:])
    if code is None:
        return data
    differences = np.zeros_like(x)
    differences[data.clean_indices] = x[data.clean_indices] - decode(data.clean_images)
    colour = np.sign(code.colour).astype(np.float32)
    amplitude = float(np.abs(differences[..., colour != 0]).mean())
    if not amplitude:
        return data

    def find(label: int, view: View) -> np.ndarray | None:
        return commonest_square(differences[data.labels == label], colour, code.side)

    added, cover = estimated_code(x, data.labels, natural_statistics(decode(data.reference)), code, find, amplitude)
    images, open_to_texture = x - added, 1 - cover[..., None] * (colour != 0)
    for label in np.unique(data.labels):
        own = data.labels == label
        left, rest = open_to_texture[own], differences[own] - added[own]
        texture = (left * rest).sum(axis=0) / np.maximum((left**2).sum(axis=0), 1)
        images[own] -= left * texture
    return replace(data, images=images)


def subtract_learned_patterns(data: HackerData) -> HackerData:
    """Subtract from every training image its tiles, whose pattern is learned from the release; a blind deconvolution.

    A pattern that is drawn is made likelier by expectation and maximisation: tiles are laid by it, and the pattern
    becomes what the images hold there on average, the inverse covariance allowed for. Of many that are drawn the one
    under which the images are likeliest stays, unless it makes those of other classes likelier as well, as edges of
    natural images do. Classes of fewer than `ENOUGH` images are left alone, and so are test images.
    """
    x, labels = decode(data.images), data.labels
    code, rng = placed_code(x.shape[1:]), np.random.default_rng(data.seed)
    if code is None:
        return data

    def find(label: int, view: View) -> np.ndarray | None:
        own, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        if len(own) < ENOUGH or not len(others):
            return None
        pattern, count = likeliest_pattern(view.of(own), share=code.share, rng=rng), min(MANY, len(own))
        ours, theirs = (
            laid_in_batches([view.of(some)], pattern, AMPLITUDE, code.share).evidence.mean()
            for some in (own[:count], rng.permutation(others)[:count])
        )
        return pattern if ours - theirs > LEAST else None

    added, _ = estimated_code(x, labels, natural_statistics(decode(data.reference)), code, find, AMPLITUDE)
    return replace(data, images=x - added)


def placed_code(shape: tuple[int, ...]) -> Placed | None:
    """The code of the default settings for images [H, W, C]; None in small images.

    A tile that may be anywhere has to fit into the image whole. `share` is below 1, so that its logarithm is a number.
    """
    summed = parametrise(Method(parametrisation="codes"), shape)
    assert isinstance(summed, Summed), "a code over a texture"
    code = next(part for part in summed.parts if isinstance(part, Placed))
    return replace(code, share=min(code.share, MOST)) if min(shape[:2]) >= 2 * code.side - 1 else None


def estimated_code(
    x: np.ndarray, labels: np.ndarray, natural: Natural, code: Placed, find: Find, amplitude: float
) -> tuple[np.ndarray, np.ndarray]:
    """The code of images, as far as the images tell.

    It is laid twice, the second time where its own other tiles are subtracted as well.

    Args:
        x: float32 [N, H, W, C].
        labels: int [N].
        natural: statistics of natural images of the kind.
        code: how it is laid.
        find: finds the pattern of a class; None for none.
        amplitude: of the code.

    Returns:
        Float32 [N, H, W, C], the mean of what the code adds, and float32 [N, H, W], the probability that it has a tile
        at a pixel.
    """
    colour = np.sign(code.colour).astype(np.float32)
    view = view_along(colour, x, natural, code.side)
    patterns = {int(label): find(int(label), view) for label in np.unique(labels)}
    laid, _ = _of_classes([view], labels, patterns, amplitude, code.share)
    again = view_along(colour, x - amplitude * laid[..., None] * colour, natural, code.side)
    laid, cover = _of_classes([view, again], labels, patterns, amplitude, code.share)
    return amplitude * laid[..., None] * colour, cover


def _of_classes(
    views: Sequence[View], labels: np.ndarray, patterns: dict[int, np.ndarray | None], amplitude: float, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Code and cover [N, H, W] that `laid_in_batches` finds by the pattern of each class; 0 where that is None."""
    code, cover = (np.zeros_like(views[0].weighted) for _ in range(2))
    for label, pattern in patterns.items():
        if pattern is not None:
            own = labels == label
            found = laid_in_batches([view.of(own) for view in views], pattern, amplitude, share)
            code[own], cover[own] = found.code, found.cover
    return code, cover


def commonest_square(differences: np.ndarray, colour: np.ndarray, side: int) -> np.ndarray | None:
    """The commonest square of signs, whatever its own sign, in differences [n, H, W, C] along a colour of signs [C].

    A tile is found whole far more often than any two of its pieces side by side. Squares whose rows are all alike, or
    whose columns are, are left out: they are of stripes. The first images are asked, as many as `at_a_time` allows.

    Returns:
        float32 [side, side] of -1 and 1; None where there is no square that has all signs.
    """
    asked, channels = differences[: at_a_time(differences.shape[1:], most=len(differences))], np.flatnonzero(colour)
    signs = np.sign(asked[..., channels]) * colour[channels]
    agreed = np.where((signs == signs[..., :1]).all(axis=-1), signs[..., 0], 0).astype(np.int8)
    cut = np.lib.stride_tricks.sliding_window_view(agreed, (side, side), axis=(1, 2)).reshape(-1, side * side)
    cut = cut[(cut != 0).all(axis=1)]
    squares = cut.reshape(-1, side, side)
    rows, columns = ((squares == some).all(axis=(1, 2)) for some in (squares[:, :1], squares[:, :, :1]))
    cut = cut[~(rows | columns)]
    if not len(cut):
        return None
    kinds, counts = np.unique(np.packbits(cut * cut[:, :1] > 0, axis=1), axis=0, return_counts=True)
    bits = np.unpackbits(kinds[counts.argmax()], count=side * side)
    return (2 * bits.astype(np.float32) - 1).reshape(side, side)


def likeliest_pattern(view: View, *, share: float, rng: np.random.Generator) -> np.ndarray:
    """The pattern under which images are likeliest, by expectation and maximisation from several starts.

    Args:
        view: of n images of a class.
        share: of the tiles that are there.
        rng: draws the starts.

    Returns:
        float32 [k, k] of mean square 1.
    """
    side, inverse = round(len(view.precision) ** 0.5), np.linalg.inv(view.precision)

    def better(pattern: np.ndarray, count: int, steps: int) -> tuple[float, np.ndarray]:
        evidence, part = -np.inf, jnp.asarray(view.weighted[:count])
        for _ in range(steps):
            found, sums = _one_step(part, pattern, AMPLITUDE, view.precision_of(pattern), share)
            evidence = float(found)
            pattern = _of_size_one((inverse @ np.asarray(sums).reshape(-1)).reshape(side, side))
        return evidence, pattern

    def best_first(candidates: list[np.ndarray], count: int, steps: int) -> list[np.ndarray]:
        found = sorted((better(pattern, count, steps) for pattern in candidates), key=lambda one: -one[0])
        return [pattern for _, pattern in found]

    starts = [_of_size_one(rng.normal(size=(side, side))) for _ in range(STARTS)]
    return best_first(best_first(starts, FEW, SHORT)[:FINALISTS], MANY, LONG)[0]


@jax.jit
def _one_step(weighted, pattern, amplitude, precision, share):
    """Mean evidence of a pattern, and the sum of the squares where it lays tiles."""
    laid = lay(weighted, pattern, amplitude=amplitude, precision=precision, share=share)
    return laid.evidence.mean(), sum_of_tiles(weighted, laid.signs, len(pattern))


@jax.jit
def _laid(views, pattern, amplitude, share):
    """`lay` by the first of views (weighted, precision), and by each further one, which has lost what was laid."""
    laid = None
    for weighted, precision in views:
        laid = lay(
            weighted, pattern, amplitude=amplitude, precision=precision, share=share,
            subtracted=None if laid is None else laid.signs,
        )  # fmt: skip
    assert laid is not None, "there is a view"
    return laid.code, laid.cover, laid.evidence


class Found(NamedTuple):
    """`Laid` of all images of a class, but for the signs."""

    code: np.ndarray
    cover: np.ndarray
    evidence: np.ndarray


def laid_in_batches(views: Sequence[View], pattern: np.ndarray, amplitude: float, share: float) -> Found:
    """What `lay` finds in images, a batch of them at a time.

    Args:
        views: of n images; a second one is of what is left of them where the tiles by the first one are subtracted.
        pattern: float32 [k, k].
        amplitude: of a tile.
        share: of the tiles that are there.
    """
    shape = views[0].weighted.shape
    n, size = shape[0], at_a_time((*shape[1:], 1), most=BATCH)
    precisions = [view.precision_of(pattern) for view in views]
    found = Found(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(n, np.float32))
    for start in range(0, n, size):
        part = np.arange(start, start + size) % n  # one shape for all classes: what is missing is filled up
        weighted = [(view.weighted[part], precision) for view, precision in zip(views, precisions, strict=True)]
        for whole, values in zip(found, _laid(weighted, pattern, amplitude, share), strict=True):
            whole[part] = values
    return found


def _of_size_one(pattern: np.ndarray) -> np.ndarray:
    return (pattern / (np.sqrt(np.square(pattern).mean()) + 1e-12)).astype(np.float32)
