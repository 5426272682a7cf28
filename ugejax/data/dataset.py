"""A labelled image set in memory, its checks, and seeded stratified subsets."""

import dataclasses

import numpy as np

from ugejax.data.account import Account
from ugejax.data.stream import Images, ImageStream
from ugejax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
      images: uint8 [N, H, W, C], C is 1 (grey) or 3 (RGB).
      labels: int32 [N], each in [0, len(class_names)).
      class_names: one name per label.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """The two disjoint parts of a source.

    Attributes:
      train: images to train on.
      test: clean test images, None where the source has none.
      train_indices: which images of the source's own train part `train` holds, int64 [n], ascending.
      n_available: number of images in that part.
      account: what else was found in the source.
    """

    train: Dataset
    test: Dataset | None
    train_indices: np.ndarray
    n_available: int
    account: Account = Account("arrays")


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed:
    """The train images of a source, to be read piece by piece.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int32 [N], each in [0, len(class_names)).
      class_names: one name per label.
      n_test: number of the source's test images, 0 where it has none.
      account: what else was found in the source.
    """

    images: ImageStream
    labels: np.ndarray
    class_names: tuple[str, ...]
    n_test: int
    account: Account = Account("arrays")


def check_dataset(dataset: Dataset, where: str) -> None:
    """Refuses a data set that no classifier could be trained on.

    Args:
      dataset: what to check.
      where: the file, folder or name it came from, for the message.

    Raises:
      UserError: images are not uint8 [N, H, W, 1 or 3] with N, H, W of at least 1; labels are not integers, not one per
        image or not all in range; there are fewer than two classes, a class name is empty or occurs twice; or a class
        has no image.
    """
    check_images(dataset.images, where)
    check_labels(dataset.labels, dataset.class_names, n_images=len(dataset.images), where=where)


def check_images(images: Images, where: str) -> None:
    """The part of `check_dataset` that needs no labels: type and shape of the images."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise UserError(
            f"{where}: images must be uint8 [N, H, W, 1 or 3], not empty, but are {images.dtype} {list(images.shape)}"
        )


def check_labels(labels: np.ndarray, class_names: tuple[str, ...], *, n_images: int, where: str) -> None:
    """The part of `check_dataset` that needs no pixels: labels against the number of images and the class names."""
    if labels.dtype.kind not in "iu":
        raise UserError(f"{where}: labels must be integers, but are {labels.dtype}")
    if labels.ndim != 1 or len(labels) != n_images:
        raise UserError(
            f"{where}: {n_images} images, but labels of shape {list(labels.shape)}; give exactly one label per image"
        )
    if len(labels) == 0:
        raise UserError(f"{where}: no images; give at least one image for each of two classes")
    if not all(isinstance(name, str) and name for name in class_names) or len(set(class_names)) != len(class_names):
        raise UserError(f"{where}: class names must be non-empty text, each given once")
    n_classes = len(class_names)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise UserError(
            f"{where}: labels must lie in [0, {n_classes - 1}] (there are {n_classes} classes), "
            f"but range from {labels.min()} to {labels.max()}"
        )
    if n_classes < 2:
        raise UserError(f"{where}: only one class ({class_names[0]!r}); at least two are needed to learn anything")
    empty = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if empty.size:
        names = ", ".join(repr(class_names[i]) for i in empty[:5]) + (", ..." if empty.size > 5 else "")
        raise UserError(f"{where}: no image of class {names}; add images, or remove the class and renumber the labels")


def stratified_subset(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of a random subset with the classes in the proportions of the whole.

    Each class gets its share n * count / N rounded down or up (largest remainders up), and at least 1; only where rare
    classes are lifted to 1 do the most favoured others give way. The draws are raw PCG64 output, which NumPy keeps
    stable between versions.

    Args:
      labels: int [N].
      n: size of the subset, from the number of distinct labels to N.
      seed: at least 0; the same seed gives the same indices.

    Returns:
      int64 [n], ascending, so that the subset keeps the order of the whole.

    Raises:
      UserError: n or seed is out of range.
    """
    labels = np.asarray(labels)
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if n > len(labels):
        raise UserError(f"{n} images were asked for, but only {len(labels)} are there; ask for at most that many")
    if n < len(classes) or n < 1:
        raise UserError(f"{n} images cannot cover {len(classes)} classes; ask for at least one image per class")
    if seed < 0:
        raise UserError(f"the seed must be at least 0, not {seed}")
    chosen = []
    for position, size in enumerate(_allocate(counts, n)):
        members = np.flatnonzero(inverse == position)
        draws = np.random.PCG64([seed, position]).random_raw(len(members))
        chosen.append(members[np.argsort(draws, kind="stable")[:size]])
    return np.sort(np.concatenate(chosen))


def _allocate(counts: np.ndarray, n: int) -> np.ndarray:
    """How many of n go to each class, in whole numbers throughout so that no rounding error decides."""
    total = int(counts.sum())
    sizes = np.maximum(1, n * counts // total)
    while sizes.sum() < n:
        sizes[np.argmax(np.where(sizes < counts, n * counts - sizes * total, np.iinfo(np.int64).min))] += 1
    while sizes.sum() > n:
        sizes[np.argmax(np.where(sizes > 1, sizes * total - n * counts, np.iinfo(np.int64).min))] -= 1
    return sizes
