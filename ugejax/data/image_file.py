"""From encoded image files to uint8 arrays."""

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ugejax.data.kinds import READABLE, UNREADABLE_FORMATS, format_of
from ugejax.errors import UserError

# Images that are held encoded at a time.
_CHUNK = 1024
# Bytes that tell what a file is.
_HEAD = 132
# Files that cannot be read, of which a message names as many.
_NAMED = 10
# What may have several pictures in it; of a camera's JPEG the others are previews.
_ANIMATED = ("PNG", "GIF", "WEBP", "TIFF", "AVIF")


class Unreadable(UserError):
    """Images that cannot be read.

    Attributes:
      files: of each what a message calls it, and why it cannot be read.
    """

    def __init__(self, files: Sequence[tuple[str, str]]):
        """Name the first ten and the number of all."""
        self.files = tuple(files)
        if len(files) == 1:
            ((where, why),) = files
            super().__init__(f"{where}: {why}; replace or remove it, or have it left out")
            return
        named = ", ".join(f"{where} ({why})" for where, why in files[:_NAMED])
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        super().__init__(
            f"{len(files)} images cannot be read: {named}{more}; replace or remove them, or have them left out"
        )


@dataclasses.dataclass(frozen=True)
class Look:
    """What an encoded image is, by its header.

    Attributes:
      format: Pillow's name, such as PNG.
      mode: Pillow's name for its kind of pixels, such as RGB or I;16.
      size: width and height, as they are shown.
      frames: pictures in it, of which the first is taken.
    """

    format: str
    mode: str
    size: tuple[int, int]
    frames: int


def decode_images(
    n: int, encoded: Callable[[int, int], Sequence[tuple[str, Path | bytes]]], *, image_size: int | None
) -> np.ndarray:
    """Decodes images that must come out in one size, on all cores.

    A set becomes RGB as soon as one image has colour; grey images among them are repeated over the channels.

    Args:
      n: number of images, at least 1.
      encoded: for the images from one index up to another, what a message calls each, and its file or its bytes.
      image_size: side of the square to which `decode_image` fits every image, or None to leave sizes alone.

    Returns:
      uint8 [n, H, W, C].

    Raises:
      Unreadable: images cannot be read; all of them are named.
      UserError: sizes differ and no image_size is given.
    """

    def decode(item: tuple[str, Path | bytes]) -> np.ndarray | Unreadable:
        try:
            return decode_image(item[1], where=item[0], image_size=image_size)
        except Unreadable as error:
            return error

    images, first_where, failed = None, "", []
    with on_all_cores() as pool:
        for start in range(0, n, _CHUNK):
            items = encoded(start, min(start + _CHUNK, n))
            for index, image in enumerate(pool.map(decode, items), start):
                if isinstance(image, Unreadable):
                    failed += image.files
                    continue
                if images is None:
                    images, first_where = np.empty((n, *image.shape), np.uint8), items[index - start][0]
                if image.shape[:2] != images.shape[1:3] and not failed:
                    raise UserError(
                        f"{items[index - start][0]} is {_size(image)}, but {first_where} is {_size(images[0])}: "
                        "give an image size (`image_size`) to resize all, or make them one size"
                    )
                if failed:
                    continue
                if image.shape[2] > images.shape[-1]:
                    images = np.repeat(images, 3, axis=3)
                images[index] = image
    if failed or images is None:
        raise Unreadable(failed)
    return images


@contextlib.contextmanager
def on_all_cores() -> Iterator[concurrent.futures.Executor]:
    """Threads that share the work of decoding, since Pillow lets go of the interpreter lock while it decodes.

    Pillow warns of what is refused here anyway (too many pixels) or does no harm (damaged metadata).
    """
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        yield pool


def decode_image(data: Path | bytes, *, where: str, image_size: int | None) -> np.ndarray:
    """Decodes an image file of a format of `ugejax.data.kinds.READABLE`, whatever its ending says.

    Grey stays one channel, everything else becomes RGB; transparency is laid on white; 16-bit grey v becomes
    round(v / 257), so that 65535 is 255. EXIF rotation is applied; of several pictures the first is taken. With
    image_size, the short side is scaled to it (bicubic) and the centre is cut out; an image that has that size already
    keeps its pixels.

    Returns:
      uint8 [H, W, C], C is 1 or 3.

    Raises:
      Unreadable: no such file, no permission, no plain file, not one of the formats, truncated, of pixels that do not
        go into 8 bits, or so large that Pillow takes it for a decompression bomb.
    """
    with _opened(data, where) as image:
        return _pixels(image, image_size)


def look_at(data: Path | bytes, *, where: str) -> Look:
    """What an image is, by its header alone; raises as `decode_image` where that shows already that it is none."""
    with _opened(data, where) as image:
        return _look(image)


def look_and_decode(data: Path | bytes, *, where: str, image_size: int | None) -> tuple[Look, np.ndarray]:
    """Both `look_at` and `decode_image`."""
    with _opened(data, where) as image:
        return _look(image), _pixels(image, image_size)


class _Odd(Exception):
    """Why an image that Pillow opens is not taken, as half a sentence to go after its name."""


@contextlib.contextmanager
def _opened(data: Path | bytes, where: str) -> Iterator[Image.Image]:
    """The image, opened and not decoded yet; whatever goes wrong while it is open becomes Unreadable."""
    kind = None
    try:
        # A pipe would never end.
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise _Odd("not a plain file")
        with io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb") as file:
            head = file.read(_HEAD)
            kind = format_of(head)
            if kind not in READABLE:
                raise _Odd(_not_readable(kind, head))
            file.seek(0)
            with Image.open(file, formats=(kind,)) as image:
                # Pillow itself only warns until twice this limit.
                if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height}")
                yield image
    except _Odd as error:
        raise Unreadable([(where, str(error))]) from error
    except Image.DecompressionBombError as error:
        raise Unreadable([(where, "too many pixels for an image of a data set; scale it down")]) from error
    except PermissionError as error:
        raise Unreadable([(where, "no permission to read it")]) from error
    except FileNotFoundError as error:
        raise Unreadable([(where, "no such file")]) from error
    # What Pillow raises on a damaged file depends on its format: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise Unreadable([(where, f"not a whole {kind} image (truncated or damaged?)")]) from error


def _not_readable(kind: str | None, head: bytes) -> str:
    if kind in UNREADABLE_FORMATS:
        return f"a {kind} image, which is not read; convert it to PNG"
    if not head:
        return "not a whole image: the file is empty"
    what = "" if kind is None else f": a {kind}"
    return f"not a whole image of a kind that is read{what} ({', '.join(READABLE)})"


def _look(image: Image.Image) -> Look:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    frames = getattr(image, "n_frames", 1) if kind in _ANIMATED else 1
    # EXIF's orientations from 5 on lie on their side; of a damaged field nothing is said.
    width, height = image.size
    with contextlib.suppress(Exception):
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
    return Look(kind, image.mode, (width, height), frames)


def _pixels(image: Image.Image, image_size: int | None) -> np.ndarray:
    upright = _to_grey_or_rgb(ImageOps.exif_transpose(image))
    return _to_array(upright if image_size is None else _fit(upright, image_size))


def resize_images(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """Fits uint8 images [N, H, W, C] to squares of image_size as `decode_image` does; None leaves them as they are."""
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    grey = images.shape[3] == 1
    return np.stack([_to_array(_fit(Image.fromarray(i[..., 0] if grey else i), image_size)) for i in images])


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, whether Pillow opens it as I;16 or as I.
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise _Odd("grey values of 32 bits, which have no place in 8; save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise _Odd("pixels in floating point, whose white nobody knows; save it with 8 or 16 bits")
    grey = image.mode in ("L", "1", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.getchannel(0) if grey else image.convert("RGB")
    return image.convert("L" if grey else "RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
