"""Data sets as other tools save them: read without running anything, else a line that says how to convert them."""

import os
from pathlib import Path

from ugejax.data.cifar_files import open_cifar, which_cifar
from ugejax.data.idx_files import find_idx, open_idx
from ugejax.data.part import Opened
from ugejax.data.tables import TO_FOLDER, find_tables, open_tables
from ugejax.data.tars import find_tars, open_tars
from ugejax.errors import UserError

# Endings of files, and what the files are.
_KINDS = {
    ".feather": "a table of Arrow", ".gz": "a compressed file", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file",
    ".mat": "a MATLAB file", ".pkl": "a pickle", ".pickle": "a pickle", ".pt": "a PyTorch file",
    ".pth": "a PyTorch file", ".mdb": "an LMDB", ".tfrecord": "a TFRecord", ".rec": "a RecordIO",
    ".beton": "an FFCV file", ".csv": "a table of text",
}  # fmt: skip
_ARCHIVES = (".tar", ".tgz", ".zip", ".rar", ".7z")
# Where the loaders of PyTorch put what they unpack.
_BELOW = ("", "raw", "MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-py", "cifar-100-python")


def open_other(path: Path, *, image_size: int | None) -> Opened | None:
    """A data set of another tool; None where it is none.

    Read are MNIST's idx files, CIFAR's pickles, tables of Hugging Face `datasets` (Parquet or Arrow) and WebDataset's
    archives, in a folder or, of the last two, as a file.

    Raises:
      UserError: it is damaged, or one that is not read.
    """
    if not path.is_dir():
        return _open_file(path, image_size)
    if not os.access(path, os.R_OK | os.X_OK):
        return None  # who lists it says so
    for folder in (path / below for below in _BELOW):
        if not folder.is_dir():
            continue
        if files := find_idx(folder):
            return open_idx(folder, files, image_size=image_size)
        if which := which_cifar(folder):
            return open_cifar(folder, which, image_size=image_size)
    if _is_of_tables(path) and (tables := find_tables(path)):
        return open_tables(path, tables, image_size=image_size)
    if tars := find_tars(path):
        return open_tars(path, tars, image_size=image_size)
    return None


def _is_of_tables(folder: Path) -> bool:
    """Whether tables lie in a folder or in its folder `data`, as on the hub, or `datasets` has saved it."""
    if any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return True
    inside = [*folder.iterdir(), *((folder / "data").iterdir() if (folder / "data").is_dir() else ())]
    return any(path.suffix in (".parquet", ".arrow") for path in inside)


def _open_file(path: Path, image_size: int | None) -> Opened | None:
    ending = path.suffix.lower()
    if ending in (".parquet", ".arrow"):
        return open_tables(path, {"train": [path]}, image_size=image_size)
    if ending == ".tar" and (opened := open_tars(path, [path], image_size=image_size)) is not None:
        return opened
    if ending in _ARCHIVES:
        raise UserError(f"{path}: an archive; unpack it and give the folder")
    if ending in _KINDS:
        raise UserError(f"{path}: {_KINDS[ending]}, which is not read; {TO_FOLDER}")
    return None
