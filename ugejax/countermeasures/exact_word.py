"""A hacker who knows the stripes of default settings, finds which of them each class has, and subtracts exactly those.

The waves are public; secret is at most which class has which, and that a matched filter tells. What `class-means` must
estimate value by value he knows but for one number, how much of the budget the cells left.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import Natural, half_waves, natural_statistics
from ugejax.errors import UserError
from ugejax.perturbations.start import stripe_codes
from ugejax.training import decode

# Of the middle wave in pixels: the default's, and those that some settings shorten to.
PERIODS = (14, 8, 4)
LEAST = 6.0  # standard deviations by which a class's stripes stand out of its mean image; others are left alone


@dataclass(frozen=True, eq=False)
class Stripes:
    """The stripes of one kind, and what a matched filter behind natural variation makes of them.

    Attributes:
        signs: by bands, from the top: float32 [A, H, W, C] of -1, 0 and 1, each code in its band, and 0 elsewhere.
    """

    signs: list[np.ndarray]

    def named(self, spectra: np.ndarray, variance: np.ndarray, natural: Natural) -> tuple[np.ndarray, np.ndarray]:
        """The most likely word of each mean image, or image, and how likely it is beside others'.

        Args:
            spectra: `Natural.spectrum` of the images, [N, H, W, C].
            variance: of what they hold beside stripes, by frequency: [H, W, C] or [N, H, W, C].
            natural: statistics of natural images.

        Returns:
            int [N, bands], the codes; float [N], the sum over bands of the stripes' standard deviations.
        """
        words, total = [], np.zeros(len(spectra))
        for codes in self.signs:
            scores = _scores(spectra, natural.spectrum(codes + natural.mean), variance)
            words.append(scores.argmax(axis=1))
            total += scores.max(axis=1)
        return np.stack(words, axis=1), total

    def of(self, words: np.ndarray) -> np.ndarray:
        """The signs of words [N, bands], float32 [N, H, W, C]."""
        return np.sum([codes[chosen] for codes, chosen in zip(self.signs, words.T, strict=True)], axis=0)


def stripes_of(num_classes: int, shape: tuple[int, ...], *, period: int) -> Stripes:
    """The stripes that `num_classes` classes of images [H, W, C] can have.

    Args:
        num_classes: K.
        shape: (H, W, C).
        period: of the middle wave in pixels.

    Raises:
        UserError: the image is too small for so many classes to differ.
    """
    h, w, channels = shape
    alphabets, colour = stripe_codes(num_classes, (h, w, channels), period=period)
    signs, top = [], 0
    for codes in alphabets:
        placed = np.zeros((len(codes), *shape), np.float32)
        placed[:, top : top + codes.shape[1]] = codes[..., None] * colour
        signs.append(placed)
        top += codes.shape[1]
    return Stripes(signs)


def subtract_exact_words(data: HackerData) -> HackerData:
    """Subtract from every training image the stripes of its class; test images stay as they are.

    1. The word of each class, by a matched filter on its mean image; the kind of stripes, of those that `_known` tells,
       is the one that fits all classes best.
    2. The amplitude, one number for each class, by generalised least squares. Where it does not stand out of what mean
       images hold by nature the class is left alone.
    """
    x, natural = decode(data.images), natural_statistics(decode(data.reference))
    present, inverse, counts = np.unique(data.labels, return_inverse=True, return_counts=True)
    means = np.stack([x[data.labels == label].mean(axis=0) for label in present])
    spectra = natural.spectrum(means)
    # How far natural class means stray, as in `class_textures`.
    between = (0.4 / (1 + half_waves(means.shape[1:]) / 1.5)) ** 2
    variance = (between + 1 / counts[:, None, None, None]) * natural.variance
    found = []
    for stripes in _known(int(data.labels.max()) + 1, means.shape[1:]):
        words, scores = stripes.named(spectra, variance, natural)
        found.append((scores.sum(), stripes, words))
    if not found:
        return data
    _, stripes, words = max(found, key=lambda one: one[0])
    signs = stripes.of(words)
    shapes = natural.spectrum(signs + natural.mean)
    power = (shapes**2 / variance).sum(axis=(1, 2, 3))
    amplitudes = (spectra * shapes / variance).sum(axis=(1, 2, 3)) / power
    amplitudes[amplitudes * np.sqrt(power) < LEAST] = 0
    textures = amplitudes[:, None, None, None] * signs
    return replace(data, images=x - textures.astype(np.float32)[inverse.reshape(-1)])


def _known(num_classes: int, shape: tuple[int, ...]) -> Iterator[Stripes]:
    """The stripes of releases, by their periods."""
    for period in PERIODS:
        with contextlib.suppress(UserError):  # of images that small there is no such release
            yield stripes_of(num_classes, shape, period=period)


def _scores(spectra: np.ndarray, codes: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """By how many standard deviations each code [A, H, W, C] stands out of each spectrum [N, H, W, C]: [N, A]."""
    weighted = (spectra / variance).reshape(len(spectra), -1) @ codes.reshape(len(codes), -1).T
    inverse = np.broadcast_to(1 / variance, spectra.shape).reshape(len(spectra), -1)
    return weighted / np.sqrt(inverse @ (codes**2).reshape(len(codes), -1).T)
