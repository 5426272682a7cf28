"""Whether imported images can be the protected form of these originals."""

import numpy as np

from ugejax.data import Dataset
from ugejax.errors import UserError

# Images worked on at a time, for memory alone.
_CHUNK = 1000


def check_protected(images: np.ndarray, originals: Dataset, where: str) -> None:
    """Refuses images that were spoilt, not changed at all, or made of other originals.

    Args:
        images: uint8 [n, H, W, C].
        originals: of the same shape.
        where: what a message calls the set.

    Raises:
        UserError: an image is of one value throughout and its original is not, as after a NaN; no image differs from
            its original; or the images are hardly more often nearer to their own original than to the next one, which
            chance alone would do half the time.
    """
    flat, flat_originals = (array.reshape(len(array), -1) for array in (images, originals.images))
    spoilt = np.flatnonzero((flat == flat[:, :1]).all(axis=1) & (flat_originals != flat_originals[:, :1]).any(axis=1))
    if spoilt.size:
        value, name = flat[spoilt[0], 0], originals.class_names[originals.labels[spoilt[0]]]
        raise UserError(
            f"{where}: {spoilt.size} images are of one value throughout and their originals are not; the first is "
            f"image {spoilt[0]} of class {name!r}, all {value}"
        )
    if np.array_equal(images, originals.images):
        raise UserError(f"{where}: these are the originals, or noise of zero: nothing is protected")
    own, other = _distances(flat, flat_originals), _distances(flat, np.roll(flat_originals, 1, axis=0))
    # Half way between chance and certainty.
    if (own < other).mean() < 0.75:
        raise UserError(
            f"{where}: these images are hardly nearer to their originals than to others; name the originals that they "
            "were made of, in the same order"
        )


def _distances(flat: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance of each image, float32 [n], of uint8 [n, H W C] both.

    Squared, so that even noise larger than the images' differences, being independent of them, adds the same to both.
    """
    chunks = (slice(start, start + _CHUNK) for start in range(0, len(flat), _CHUNK))
    return np.concatenate([((flat[c].astype(np.float32) - others[c]) ** 2).sum(axis=1) for c in chunks])
