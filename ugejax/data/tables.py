"""Data sets of Hugging Face `datasets` on the disk: tables of Arrow or Parquet with encoded images and labels.

They are read by PyArrow, which comes with tensorflow-datasets; nothing of them is run, and nothing is downloaded.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.data.account import Account, SplitUse, shown, some
from ugejax.data.image_file import decode_images
from ugejax.data.part import Encoded, Opened, Part
from ugejax.errors import UserError

_ENDINGS = (".parquet", ".arrow")
# Names of splits, in the order in which they are preferred as test images.
_TEST = ("test", "validation", "valid", "val")
# Of several columns of labels the one that is meant.
_LABELS = ("label", "labels", "fine_label")


def find_tables(folder: Path) -> dict[str, list[Path]]:
    """The tables of each split in a folder: `data/train-00000-of-00001.parquet`, `train/data-00000-of-00001.arrow` ...

    Tables of no split in their name are those of `train`. Empty where there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(path for ending in _ENDINGS for path in folder.rglob(f"*{ending}")):
        inner = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inner.parts):
            words = re.split(r"[^a-z0-9]+", "/".join(inner.parts).lower())
            split = next((word for word in words if word in ("train", *_TEST)), "train")
            found.setdefault(split, []).append(path)
    return found


def open_tables(where: Path, splits: dict[str, list[Path]], *, image_size: int | None) -> Opened:
    """The splits `train`, and the first of `test`, `validation`, `valid` and `val` that is there.

    Raises:
      UserError: there are no train images, PyArrow is missing, or a table is damaged or has no images and labels.
    """
    if "train" not in splits:
        raise UserError(f"{where}: tables of {', '.join(splits)}, but none of train; get the train split too")
    test_name = next((name for name in _TEST if name in splits), None)
    train = _part(splits["train"], f"{shown(where)}, train", None, image_size)
    test = None
    if test_name is not None:
        test = _part(splits[test_name], f"{shown(where)}, {test_name}", train.class_names, image_size)
    uses = []
    for name, paths in splits.items():
        use = "train" if name == "train" else "test" if name == test_name else "not used"
        uses.append(SplitUse(name, use, sum(_rows(path) for path in paths)))
    return Opened(train, test, Account("tables of Hugging Face datasets", tuple(uses)))


def _part(paths: Sequence[Path], where: str, known: tuple[str, ...] | None, image_size: int | None) -> Part:
    tables = [_table(path) for path in paths]
    image, label = _columns(tables[0].schema, where)
    names = _class_names(tables[0].schema, label)
    try:
        labels = np.concatenate([table.column(label).to_numpy() for table in tables])
        images = [chunk for table in tables for chunk in table.column(image).chunks]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{where}: its tables differ in their columns; get the set again") from error
    if labels.dtype.kind not in "iu":
        raise UserError(f"{where}: the column {label!r} holds no whole numbers; {TO_FOLDER}")
    if names is None:
        names = known or tuple(str(i) for i in range(min(int(labels.max(initial=0)) + 1, len(labels))))
    if known is not None and names != known:
        raise UserError(f"{where}: has other classes than the train images")
    ends = np.cumsum([len(chunk) for chunk in images])

    def encoded(indices: np.ndarray) -> Encoded:
        items = []
        for i in indices.tolist():
            place = int(np.searchsorted(ends, i, side="right"))
            value = images[place][i - int(ends[place]) + len(images[place])].as_py()
            data = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise UserError(f"{where}, image {i}: its bytes are not in the table; {TO_FOLDER}")
            items.append((f"{where}, image {i}", data))
        return items

    def read(indices: np.ndarray) -> np.ndarray:
        return decode_images(len(indices), lambda start, stop: encoded(indices[start:stop]), image_size=image_size)

    small = np.clip(labels, -1, np.iinfo(np.int32).max).astype(np.int32)
    return Part(where, small, names, read, encoded)


TO_FOLDER = (
    "write its images into a folder for each class and give that: for each image and label "
    "image.save(f'photos/{name_of[label]}/{number}.png')"
)


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError(
            f"tables of Parquet and Arrow are read by PyArrow: pip install pyarrow; or {TO_FOLDER}"
        ) from None
    return pyarrow


def _table(path: Path) -> Any:
    pa = _arrow()
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.ParquetFile(path).read()
        with pa.memory_map(str(path)) as source:
            # `datasets` writes streams; others write files with a directory at their end.
            try:
                return pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(path)}: not a whole table (truncated or damaged?); get it again") from error


def _rows(path: Path) -> int:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(path).metadata.num_rows
    return _table(path).num_rows


def _columns(schema: Any, where: str) -> tuple[str, str]:
    """The column of the images and that of the labels."""
    pa, features = _arrow(), _features(schema)
    images = [
        field.name
        for field in schema
        if features.get(field.name, {}).get("_type") == "Image"
        or (pa.types.is_struct(field.type) and "bytes" in [inner.name for inner in field.type])
    ]
    labels = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = labels or [name for name in _LABELS if name in schema.names]
    preferred = [name for name in _LABELS if name in labels]
    if len(images) != 1 or not (len(labels) == 1 or preferred):
        raise UserError(
            f"{where}: needs a column of images and one of labels, but has {some(schema.names, 8)}; {TO_FOLDER}"
        )
    return images[0], labels[0] if len(labels) == 1 else preferred[0]


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    names = _features(schema).get(label, {}).get("names")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` has noted of the columns; empty where it has not."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
