"""PNG files named by index in the order of the originals.

So do APBench, adversarial_poisons (TAP), autoregressive-poisoning and ImageShortcutSqueezing.
"""

import hashlib
import re
import struct
from pathlib import Path

import numpy as np

from ugejax.app.exchange.files import listing_sha256, opened
from ugejax.app.exchange.form import Exported, Form, Imported, images_of_train, of_train
from ugejax.app.files import synced
from ugejax.app.release.write import manifest, write_images
from ugejax.data import Splits
from ugejax.data.image_file import decode_images
from ugejax.errors import UserError

_NAME = re.compile(r"(\d{1,9})\.png")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _read(place: str, splits: Splits) -> Imported:
    folder = Path(place)
    # The tools that train on such a folder look for the images in a folder `data` in it.
    folder = folder / "data" if (folder / "data").is_dir() else folder
    images, digests = read_numbered(folder, splits, place)
    return Imported(images, None, digests)


def read_numbered(folder: Path, splits: Splits, where: str) -> tuple[np.ndarray, dict[str, str]]:
    """The images of a folder of 0.png, 1.png and so on, and the hash of all of them by the folder's name.

    Args:
        folder: the folder.
        splits: the originals.
        where: what a message calls the set.

    Raises:
        UserError: an image is missing, there twice, damaged, larger than its original or no PNG.
    """
    files = _files(folder)
    chosen = [(str(files[i]), files[i]) for i in of_train(np.arange(len(files)), splits, where)]
    digests = {file.name: hashlib.sha256(_content(file, splits)).hexdigest() for file in files}
    images = decode_images(len(chosen), lambda start, stop: chosen[start:stop], image_size=None)
    return images_of_train(images, splits, where), {folder.name: listing_sha256(digests)}


def _files(folder: Path) -> list[Path]:
    """The files 0.png, 1.png and so on; what has other names is left out."""
    try:
        found = [(int(name[1]), entry) for entry in folder.iterdir() if (name := _NAME.fullmatch(entry.name))]
    except OSError as error:
        raise UserError(f"{folder}: {(error.strerror or '').lower()}; give a folder with 0.png, 1.png, ...") from error
    found.sort()
    wrong = next((i for i, (index, _) in enumerate(found) if i != index), None if found else 0)
    if wrong is not None:
        raise UserError(f"{folder}: image {wrong} is missing or there twice; the images must be 0.png, 1.png and so on")
    return [entry for _, entry in found]


def _content(file: Path, splits: Splits) -> bytes:
    """The bytes of a file that is a PNG of the right size, which is looked at before memory is set aside for it."""
    height, width, channels = splits.train.images.shape[1:]
    with opened(file, most=2 * height * width * channels) as stream:
        content = stream.read()
    if content[:8] != _SIGNATURE:
        raise UserError(f"{file}: not a PNG file; a set that was saved with loss has lost its noise")
    if content[12:16] != b"IHDR" or struct.unpack(">II", content[16:24].ljust(8, b"\0")) != (width, height):
        raise UserError(f"{file}: not of {width} x {height} pixels like its original")
    return content


def _write(path: Path, exported: Exported) -> None:
    path.mkdir()
    write_images(path / "data", exported.images)
    with synced(path / "manifest.csv") as file:
        file.writelines(manifest(exported.images, exported.labels, exported.class_names))


PNG = Form(_read, _write, "folder of 0.png, 1.png, ...: APBench, TAP, AR, ISS")
