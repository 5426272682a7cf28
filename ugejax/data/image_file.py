"""From encoded image files to uint8 arrays."""

import concurrent.futures
import io
import os
import stat
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ugejax.errors import UserError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# Images that are held encoded at a time.
_CHUNK = 1024


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
      UserError: an image cannot be read, or sizes differ and no image_size is given.
    """

    def decode(item: tuple[str, Path | bytes]) -> np.ndarray:
        return decode_image(item[1], where=item[0], image_size=image_size)

    # Pillow lets go of the interpreter lock while it decodes, so threads share the work. It warns of what is refused
    # here anyway (too many pixels) or does no harm (damaged metadata).
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        ((first_where, data),) = encoded(0, 1)
        first = decode((first_where, data))
        images = np.empty((n, *first.shape), np.uint8)
        for start in range(0, n, _CHUNK):
            items = encoded(start, min(start + _CHUNK, n))
            for index, image in enumerate(pool.map(decode, items), start):
                if image.shape[:2] != first.shape[:2]:
                    raise UserError(
                        f"{items[index - start][0]} is {_size(image)}, but {first_where} is {_size(first)}: "
                        "give an image size (`image_size`) to resize all, or make them one size"
                    )
                if image.shape[2] > images.shape[-1]:
                    images = np.repeat(images, 3, axis=3)
                images[index] = image
    return images


def decode_image(data: Path | bytes, *, where: str, image_size: int | None) -> np.ndarray:
    """Decodes a PNG, JPEG, WebP or BMP file.

    Grey stays one channel, everything else becomes RGB; transparency is laid on white; 16-bit grey v becomes
    round(v / 257), so that 65535 is 255. EXIF rotation is applied. With image_size, the short side is scaled to it
    (bicubic) and the centre is cut out; an image that has that size already keeps its pixels.

    Returns:
      uint8 [H, W, C], C is 1 or 3.

    Raises:
      UserError: no such file, no permission, no plain file, not one of the formats, truncated, or so large that Pillow
        takes it for a decompression bomb.
    """
    try:
        # A pipe would never end.
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise UserError(f"{where}: not a plain file; replace or remove it")
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS) as image:
            # Pillow itself only warns until twice this limit.
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            upright = _to_grey_or_rgb(ImageOps.exif_transpose(image))
            return _to_array(upright if image_size is None else _fit(upright, image_size))
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{where}: too many pixels for an image of a data set; scale it down or remove it") from error
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read it") from error
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such file") from error
    # What Pillow raises on a damaged file depends on its format: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise UserError(
            f"{where}: not a whole PNG, JPEG, WebP or BMP image (truncated or damaged?); replace or remove it"
        ) from error


def resize_images(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """Fits uint8 images [N, H, W, C] to squares of image_size as `decode_image` does; None leaves them as they are."""
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    grey = images.shape[3] == 1
    return np.stack([_to_array(_fit(Image.fromarray(i[..., 0] if grey else i), image_size)) for i in images])


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, whether Pillow opens it as I;16 or as I.
        return Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


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
