"""Releases of a hacker's own images, made as the release before him was, under keys of his own."""

from collections.abc import Callable

import numpy as np

from ugejax.countermeasures.hacker_data import Pairs
from ugejax.data import Dataset

KEYS = 8  # of the hacker's own, with an equal part of his images each
STRANGER = 2**31 - 1  # number of the key under which test images are released, which no hacker's own has

# (images uint8 [N, H, W, C], labels int32 [N], number of the key) -> released images.
Imitation = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def own_pairs(imitation: Imitation, natural: Dataset, seed: int) -> Pairs:
    """Natural images beside what an imitation makes of them, a part of them under each of `KEYS` keys of the seed's."""
    order = np.random.default_rng(seed).permutation(len(natural.images))
    parts = [part for part in np.array_split(order, KEYS) if len(part)]
    released = [
        imitation(natural.images[part], natural.labels[part], seed * KEYS + number) for number, part in enumerate(parts)
    ]
    return Pairs(natural.images[np.concatenate(parts)], np.concatenate(released))
