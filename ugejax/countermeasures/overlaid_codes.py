"""A hacker who lays what other classes' images have over every image, so that a code no longer tells its class.

He need not find the perturbation of an image, only something that looks like those of other classes. It costs noise as
strong as the perturbation itself in every layer.
"""

from dataclasses import replace

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import natural_statistics
from ugejax.training import decode

LAYERS = 2  # other classes' residuals on every image


def overlay_other_classes(data: HackerData) -> HackerData:
    """Add to every training image the residuals of images of other classes; test images stay as they are.

    The residual of an image is what a Wiener filter takes out of it as noise, by the strength that noise has in the
    release; of originals next to nothing. Each is mirrored or not and has a random sign, since codes that are laid with
    random signs look so. Images and signs are drawn from the seed. Where all images are of one class they stay.
    """
    x, labels = decode(data.images), data.labels
    if (labels == labels[0]).all():
        return data
    rng, images = np.random.default_rng(data.seed), x
    residuals = natural_statistics(decode(data.reference)).residual(x)
    for _ in range(LAYERS):
        layers = residuals[_of_other_classes(labels, rng)]
        mirrored, signs = rng.choice([False, True], len(x)), rng.choice([-1, 1], len(x)).astype(np.float32)
        layers = np.where(mirrored[:, None, None, None], layers[:, :, ::-1], layers)
        images = images + signs[:, None, None, None] * layers
    return replace(data, images=images)


def _of_other_classes(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each image the index of one of another class, all of them equally likely: int [N]."""
    chosen = rng.integers(0, len(labels), len(labels))
    while (same := labels[chosen] == labels).any():
        chosen[same] = rng.integers(0, len(labels), same.sum())
    return chosen
