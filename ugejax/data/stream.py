"""Images that are read when they are asked for, so that a set need not fit into memory."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ugejax.data.image_file import Unreadable
from ugejax.errors import UserError

# Bytes of the images that are decoded at a time.
_MOST_BYTES = 2**28


# function(thing) of each thing, in order, as `map` has it; things and results are such as JSON can say.
OfEach = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class Images(Protocol):
    """Images [N, H, W, C] that are had by slices or by ascending indices: an array, a stream or shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        ...

    @property
    def ndim(self) -> int:
        """4."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: Any, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStream:
    """Images uint8 [N, H, W, C] that are decoded anew each time they are asked for.

    Attributes:
      where: what a message calls them.
      read: the images at ascending indices, uint8 [n, H, W, 1 or 3].
      indices: of the images, ascending int64 [N].
      image_shape: (H, W, C).
      digest: SHA-256 in hexadecimal that tells sets apart, see `open_stream`.
      digests: of each image the first 16 bytes of its own, S16 [N]; None where they are not known.
    """

    where: str
    read: Callable[[np.ndarray], np.ndarray]
    indices: np.ndarray
    image_shape: tuple[int, int, int]
    digest: str
    digests: np.ndarray | None = None

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self.indices), *self.image_shape)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """The images of a slice, or at ascending positions.

        Raises:
          UserError: one cannot be read, or has another size or colours than when the stream was opened.
        """
        images = self.read(self.indices[part])
        height, width, channels = self.image_shape
        if images.shape[1:3] != (height, width) or images.shape[3] > channels:
            raise UserError(f"{self.where}: images were changed while they were read; start again")
        return images if images.shape[3] == channels else np.repeat(images, channels, axis=3)


def open_stream(
    where: str, read: Callable[[np.ndarray], np.ndarray], indices: np.ndarray, *, of_each: OfEach = map
) -> ImageStream:
    """A stream over images, each of which is decoded once here, so that a damaged one is found before any work.

    The stream is RGB as soon as one image has colour, as `decode_images` would
    have them. Its digest is of the size and of the digests of all images: a release's salt follows from it, and so it
    must not depend on how many images are read at a time.

    Args:
      where: what a message calls them.
      read: the images at ascending indices, uint8 [n, H, W, 1 or 3], all of one size.
      indices: ascending int64 [N], at least one.
      of_each: has several processes look at a share each: `ugejax.app.hosts.in_shares`.

    Raises:
      Unreadable: images cannot be read; all of them are named.
      UserError: sizes differ.
    """

    def look(part: slice) -> tuple[list[int], str, list[tuple[str, str]]]:
        try:
            # Behind the first image of all, so that sizes are compared between the pieces as well.
            images = read(np.concatenate([indices[:1], indices[part]]))[1:]
        except Unreadable as error:
            return [], "", list(error.files)
        return list(images.shape), "".join(map(_digest, images)), []

    first = _first_shape(read, indices)
    shapes, digests, failed = zip(*of_each(look, list(pieces(len(indices), of=first))), strict=True)
    if any(failed):
        # The first image of all is in every piece.
        raise Unreadable(list(dict.fromkeys((file, why) for piece in failed for file, why in piece)))
    _, height, width, _ = shapes[0]
    channels = max(shape[3] for shape in shapes)
    described = f"{(len(indices), height, width, channels)}{''.join(digests)}"
    digest = hashlib.sha256(described.encode()).hexdigest()
    each = np.frombuffer(bytes.fromhex("".join(digests)), "S16")[::2].copy()
    return ImageStream(where, read, indices, (height, width, channels), digest, each)


def _first_shape(read: Callable[[np.ndarray], np.ndarray], indices: np.ndarray) -> tuple[int, ...]:
    """Shape of the first image, from which follows how many are read at a time; empty where it cannot be read."""
    try:
        return read(indices[:1]).shape[1:]
    except Unreadable:
        return ()


def _digest(image: np.ndarray) -> str:
    """SHA-256 of an image's pixels; a grey one has the same among grey and among coloured images."""
    if (image == image[..., :1]).all():
        image = image[..., :1]
    return hashlib.sha256(image.tobytes()).hexdigest()


def digest_of(image: np.ndarray) -> bytes:
    """The 16 bytes by which an image uint8 [H, W, C] is known among `ImageStream.digests`."""
    return bytes.fromhex(_digest(image)[:32])


def pieces(n: int, size: int = 256, first: int = 0, *, of: Sequence[int] = ()) -> Iterator[slice]:
    """Slices of at most `size` that make up first ... n - 1; in float64 256 images of 64 x 64 x 3 take 25 MB.

    Args:
        n: number of images.
        size: of a slice.
        first: where they begin.
        of: shape (H, W, C) of an image; large ones come in smaller slices, of at most 256 MiB in 8 bits.
    """
    if of:
        size = max(1, min(size, _MOST_BYTES // math.prod(of)))
    return (slice(start, min(start + size, n)) for start in range(first, n, size))
