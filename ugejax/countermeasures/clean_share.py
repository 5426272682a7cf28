"""A hacker who holds some of the originals."""

from dataclasses import replace

import numpy as np

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.training import decode


def mix_in(data: HackerData) -> HackerData:
    """The originals that he holds, in place of their released versions."""
    same = data.images.dtype == data.clean_images.dtype
    images, originals = (array if same else decode(array) for array in (data.images, data.clean_images))
    images = images.copy()
    images[data.clean_indices] = originals
    return replace(data, images=images)


def leave_release_out(data: HackerData) -> HackerData:
    """The originals that he holds, and nothing of the release: what they are worth without it."""
    own = np.arange(len(data.clean_images))
    return replace(data, images=data.clean_images, labels=data.clean_labels, clean_indices=own)
