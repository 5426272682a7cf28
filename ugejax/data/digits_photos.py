"""The source `digits-photos`: handwritten digits blended into crops of colour photographs; nothing is downloaded.

The digits are scikit-learn's, the photographs those that lie in scikit-image's wheel. An image is |crop - digit|, as in
MNIST-M (Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015, arXiv 1409.7495, section
4): the photograph, and its negative along the strokes. Digits and regions of the photographs are divided between the
training and the test images before they are blended.

The images are the same bytes everywhere: the photographs are PNG, which every decoder reads alike, the arithmetic is
that of whole numbers, and what is drawn follows from raw PCG64 output, which NumPy keeps stable between versions.
"""

import dataclasses
import importlib.resources
from collections.abc import Sequence

import numpy as np

from ugejax.data.account import Account, SplitUse
from ugejax.data.arrays import part_of_arrays
from ugejax.data.image_file import decode_image
from ugejax.data.part import Opened
from ugejax.errors import UserError

NAME = "digits-photos"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
# Images of each class.
TRAIN, TEST = 400, 100
# Of the digits of each class and of the tiles of each photograph, one in so many is for test images.
_HELD_OUT = 5
# Side of an image, of the enlarged digit in it, and of the tiles that a photograph is divided into; a crop lies within
# a tile.
_SIDE, _DIGIT, _TILE = 32, 28, 64
# Of scikit-learn's 16 levels those up to the first are ground, those from the second on are stroke.
_GROUND, _STROKE = 4, 12


@dataclasses.dataclass(frozen=True, eq=False)
class Blends:
    """What the images of one part are made of.

    Attributes:
      digits: which of scikit-learn's digits, int64 [N].
      photographs: which of `PHOTOGRAPHS`, int64 [N].
      crops: row and column of the crop's upper left pixel in the photograph, int64 [N, 2].
      places: row and column of the digit's upper left pixel in the image, int64 [N, 2].
    """

    digits: np.ndarray
    photographs: np.ndarray
    crops: np.ndarray
    places: np.ndarray


def open_digits_photos(image_size: int | None) -> Opened:
    """4,000 training and 1,000 test images, 32 x 32 in colour, as many of each of the ten digits.

    Args:
      image_size: side of the square to which the images are scaled, None to leave them alone.

    Raises:
      UserError: scikit-image comes without one of the photographs.
    """
    digits, labels = read_digits()
    photographs = read_photographs()
    train, test = choose(labels, [photograph.shape[:2] for photograph in photographs])
    train_part, test_part = (
        part_of_arrays(where, blend(digits, photographs, blends), labels[blends.digits], None, image_size)[0]
        for where, blends in ((NAME, train), (f"{NAME}, test", test))
    )
    splits = (SplitUse("train", "train", len(train.digits)), SplitUse("test", "test", len(test.digits)))
    return Opened(train_part, test_part, Account("scikit-learn's digits in scikit-image's photographs", splits))


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits, int64 [N, 8, 8] in 0 ... 16, and their labels, int64 [N]."""
    from sklearn.datasets import load_digits  # imported late: scikit-learn takes a second to load

    values, labels = load_digits(return_X_y=True)
    return values.reshape(-1, 8, 8).astype(np.int64), labels.astype(np.int64)


def read_photographs() -> list[np.ndarray]:
    """`PHOTOGRAPHS` as uint8 [H, W, 3], each of a size of its own.

    Raises:
      UserError: scikit-image comes without one of them.
    """
    folder = importlib.resources.files("skimage") / "data"
    try:
        encoded = [(folder / name).read_bytes() for name in PHOTOGRAPHS]
    except OSError as error:
        raise UserError(f"{NAME}: cannot read {error.filename} of scikit-image; install scikit-image 0.26") from error
    return [
        decode_image(data, where=f"{folder / name}", image_size=None)
        for data, name in zip(encoded, PHOTOGRAPHS, strict=True)
    ]


def choose(labels: np.ndarray, sizes: Sequence[tuple[int, int]]) -> tuple[Blends, Blends]:
    """What the training images and the test images are made of; they share no digit and no pixel of a photograph.

    Args:
      labels: of all digits, int64 [N] in 0 ... 9.
      sizes: height and width of each photograph, at least 64 x 64.
    """
    draws = _Draws()
    digits: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in range(10):
        _divide(draws.shuffled(np.flatnonzero(labels == label)), digits)
    tiles: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for photograph, (height, width) in enumerate(sizes):
        rows, columns = np.indices((height // _TILE, width // _TILE)).reshape(2, -1) * _TILE
        _divide(draws.shuffled(np.stack([np.full(len(rows), photograph), rows, columns], axis=1)), tiles)
    train, test = (
        _choose_part(draws, of_classes, np.concatenate(of_photographs), count)
        for of_classes, of_photographs, count in zip(digits, tiles, (TRAIN, TEST), strict=True)
    )
    return train, test


def _divide(shuffled: np.ndarray, parts: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    held_out = len(shuffled) // _HELD_OUT
    parts[0].append(shuffled[held_out:])
    parts[1].append(shuffled[:held_out])


def _choose_part(draws: "_Draws", of_classes: list[np.ndarray], tiles: np.ndarray, count: int) -> Blends:
    """What one part is made of: all digits of a class equally often, as far as `count` images of a class allow."""
    digits = draws.shuffled(np.concatenate([np.resize(of_class, count) for of_class in of_classes]))
    n = len(digits)
    photographs, rows, columns = tiles[draws.below(np.full(n, len(tiles)))].T
    crops = np.stack([rows, columns], axis=1) + draws.below(np.full((n, 2), _TILE - _SIDE + 1))
    places = draws.below(np.full((n, 2), _SIDE - _DIGIT + 1))
    return Blends(digits, photographs, crops, places)


class _Draws:
    """Numbers drawn one after the other; always the same."""

    def __init__(self):
        self._generator = np.random.PCG64(0)

    def below(self, bounds: np.ndarray) -> np.ndarray:
        """A whole number from 0 up to each bound, which it does not reach; int64, shaped like the bounds."""
        words = self._generator.random_raw(bounds.size).reshape(bounds.shape) >> np.uint64(32)
        return (words * bounds.astype(np.uint64) >> np.uint64(32)).astype(np.int64)

    def shuffled(self, values: np.ndarray) -> np.ndarray:
        """The rows in random order."""
        return values[np.argsort(self._generator.random_raw(len(values)), kind="stable")]


def blend(digits: np.ndarray, photographs: Sequence[np.ndarray], blends: Blends) -> np.ndarray:
    """The images, uint8 [N, 32, 32, 3].

    Args:
      digits: int64 [M, 8, 8] in 0 ... 16.
      photographs: uint8 [H, W, 3], each of a size of its own.
      blends: what each image is made of.
    """
    images = np.empty((len(blends.digits), _SIDE, _SIDE, 3), np.uint8)
    enlarged = enlarge(digits, _DIGIT)
    for image, digit, photograph, (row, column), (down, right) in zip(
        images, blends.digits, blends.photographs, blends.crops, blends.places, strict=True
    ):
        image[:] = photographs[photograph][row : row + _SIDE, column : column + _SIDE]
        under = image[down : down + _DIGIT, right : right + _DIGIT]
        under[:] = np.abs(under - enlarged[digit][..., None])
    return images


def enlarge(digits: np.ndarray, side: int) -> np.ndarray:
    """Digits enlarged bilinearly, their contrast raised until grounds are 0 and strokes 255.

    Args:
      digits: int64 [M, n, n] in 0 ... 16.
      side: of the enlarged digits in pixels.

    Returns:
      int64 [M, side, side] in 0 ... 255.
    """
    n, unit = digits.shape[1], 2 * side
    # Where the centre of an enlarged pixel lies, counted from the centre of a digit's first pixel, in 1 / unit pixels.
    centres = np.clip((2 * np.arange(side) + 1) * n - side, 0, unit * (n - 1))
    before = np.minimum(centres // unit, n - 2)
    weights = np.zeros((side, n), np.int64)
    weights[np.arange(side), before + 1] = centres - unit * before
    weights[np.arange(side), before] = unit - weights[np.arange(side), before + 1]
    values = weights @ digits @ weights.T  # a pixel's level times unit * unit
    ground, stroke = _GROUND * unit * unit, _STROKE * unit * unit
    return (255 * (np.clip(values, ground, stroke) - ground) * 2 + stroke - ground) // (2 * (stroke - ground))
