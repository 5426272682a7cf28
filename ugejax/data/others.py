"""Data sets as other tools save them: read where that is plain, else a line that says how to convert them."""

from pathlib import Path

from ugejax.data.part import Opened
from ugejax.errors import UserError

_TO_FOLDER = (
    "write its images into a folder for each class and give that: for each image and label "
    "image.save(f'photos/{name_of[label]}/{number}.png')"
)
# Endings of files, and what the files are.
_KINDS = {
    ".parquet": "a table of Parquet", ".arrow": "a table of Arrow", ".feather": "a table of Arrow",
    ".tar": "an archive", ".tgz": "an archive", ".gz": "a compressed file", ".zip": "an archive", ".rar": "an archive",
    ".7z": "an archive", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".mat": "a MATLAB file",
    ".pkl": "a pickle", ".pickle": "a pickle", ".pt": "a PyTorch file", ".pth": "a PyTorch file",
    ".lmdb": "an LMDB", ".mdb": "an LMDB", ".tfrecord": "a TFRecord", ".rec": "a RecordIO", ".beton": "an FFCV file",
}  # fmt: skip


def open_other(path: Path, *, image_size: int | None) -> Opened | None:
    """A data set of another tool; None where it is none.

    Raises:
      UserError: it is one that is not read.
    """
    if not path.is_dir():
        kind = _KINDS.get(path.suffix.lower())
        if kind is None:
            return None
        if kind == "an archive":
            raise UserError(f"{path}: {kind}; unpack it and give the folder")
        raise UserError(f"{path}: {kind}, which is not read; {_TO_FOLDER}")
    return None
