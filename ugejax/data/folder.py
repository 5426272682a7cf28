"""Image folders: one folder per class, or `train/<class>` beside `test/<class>`."""

from pathlib import Path

import numpy as np

from ugejax.data.image_file import decode_images
from ugejax.data.part import Part
from ugejax.errors import UserError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_TEST_FOLDERS = ("test", "val", "validation")


def open_folder(root: Path, *, image_size: int | None) -> tuple[Part, Part | None]:
    """The train and test parts of an image folder.

    With a folder `train` in it, each folder in that is a class, and the first of `test`, `val` and `validation` that is
    there holds the test images of the same classes. Otherwise each folder in `root` is a class. Classes and images come
    in the order of their names; images may lie in folders below their class. Left out is everything hidden and every
    file that does not end in .png, .jpg, .jpeg, .webp or .bmp; one that does and is no image is an error.

    Raises:
      UserError: no class folders, a class without images, or a folder that cannot be listed.
    """
    train = root / "train"
    if not (_is_folder(train) and _class_folders(train)):
        return _open_classes(root, image_size), None
    train_part = _open_classes(train, image_size)
    test = next((root / name for name in _TEST_FOLDERS if _is_folder(root / name)), None)
    if test is None:
        return train_part, None
    test_part = _open_classes(test, image_size)
    if test_part.class_names != train_part.class_names:
        differing = sorted(set(test_part.class_names) ^ set(train_part.class_names))[0]
        raise UserError(f"{test}: its class folders must be those of {train}, but only one of them has {differing!r}")
    return train_part, test_part


def _open_classes(folder: Path, image_size: int | None) -> Part:
    classes = _class_folders(folder)
    if not classes:
        raise UserError(f"{folder}: no class folders in it; put the images of each class into a folder of their own")
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        found = _images_below(class_folder)
        if not found:
            raise UserError(
                f"{class_folder}: an empty class (no PNG, JPEG, WebP or BMP file); add images or remove the folder"
            )
        files += found
        labels += [label] * len(found)

    def read(indices: np.ndarray) -> np.ndarray:
        chosen = [files[i] for i in indices]

        def encoded(start: int, stop: int) -> list[tuple[str, Path]]:
            return [(str(file), file) for file in chosen[start:stop]]

        return decode_images(len(chosen), encoded, image_size=image_size)

    return Part(str(folder), np.array(labels, np.int32), tuple(folder.name for folder in classes), read)


def _class_folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _images_below(folder: Path) -> list[Path]:
    found = []
    for entry in _entries(folder):
        if entry.is_dir():
            # A link to a folder above would never end.
            found += [] if entry.is_symlink() else _images_below(entry)
        elif entry.suffix.lower() in _SUFFIXES:
            found.append(entry)
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(e for e in folder.iterdir() if not e.name.startswith(".") and e.name != "__MACOSX")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot list it ({error.strerror}); check that it is a folder you may read"
        ) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise UserError(f"{path}: cannot look at it ({error.strerror})") from error
