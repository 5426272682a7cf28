"""A hacker who holds some of the originals."""

from dataclasses import replace

from ugejax.countermeasures.hacker_data import HackerData


def mix_in(data: HackerData) -> HackerData:
    """The originals that he holds, in place of their released versions."""
    images = data.images.copy()
    images[data.clean_indices] = data.clean_images
    return replace(data, images=images)


def leave_release_out(data: HackerData) -> HackerData:
    """The originals that he holds, and nothing of the release: what they are worth without it."""
    return replace(data, images=data.clean_images, labels=data.clean_labels)
