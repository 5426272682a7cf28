"""A hacker who keeps one fixed combination of the colour channels, in which there may be no code.

What a release writes into some channels and not into others, or into all with fixed signs, is gone from one of these.
Images of other than three channels stay as they are.
"""

from collections.abc import Mapping

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData, to_uint8
from ugejax.countermeasures.natural import half_waves, natural_statistics
from ugejax.training import decode
from ugejax.transforms.filters import LUMA

# Weights of red, green and blue.
COMBINATIONS: Mapping[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "luma": LUMA,
    "red-minus-green": (1, -1, 0),
    "red-minus-blue": (1, 0, -1),
    "green-minus-blue": (0, 1, -1),
}


def mixed(images: np.ndarray, *, weights: tuple[float, float, float]) -> np.ndarray:
    """One combination of the channels in all of them, rounded to 8 bits.

    Args:
        images: uint8 or float32 [N, H, W, C].
        weights: of the channels. Where they sum to zero, a grey image becomes mid-grey, and differences are halved so
            that they fit into 8 bits.

    Returns:
        uint8 [N, H, W, C].
    """
    if images.shape[-1] != len(weights):
        return to_uint8(images)
    one = decode(images) @ np.asarray(weights, np.float32)
    if sum(weights) == 0:
        one = 0.5 + one / 2
    return np.repeat(to_uint8(one)[..., None], len(weights), axis=-1)


def least_code(data: HackerData) -> HackerData:
    """Keep of every image the combination of `COMBINATIONS` whose class means are the most like natural ones."""
    if data.images.shape[-1] != 3:
        return data
    energies = {name: class_energy(data, weights) for name, weights in COMBINATIONS.items()}
    chosen = COMBINATIONS[min(energies, key=lambda name: energies[name])]
    return data.with_all_images(lambda images: mixed(images, weights=chosen))


def class_energy(data: HackerData, weights: tuple[float, float, float]) -> float:
    """Mean square of the class means of a combination of the channels, over frequencies and classes.

    It is measured in standard deviations of what natural class means stray by, as in `class_textures`, so that it is
    about 1 of natural images and grows with what the images of a class share beside. The release tells it by itself.
    """
    channel = np.asarray(weights, np.float32)[:, None]
    x, reference = decode(data.images) @ channel, decode(data.reference) @ channel
    natural, waves = natural_statistics(reference), half_waves((*x.shape[1:3], 1))
    present, counts = np.unique(data.labels, return_counts=True)
    means = natural.spectrum(np.stack([x[data.labels == label].mean(axis=0) for label in present]))
    stray = (0.4 / (1 + waves / 1.5)) ** 2 + 1 / counts[:, None, None, None]
    return float((means**2 / (stray * natural.variance)).mean())
