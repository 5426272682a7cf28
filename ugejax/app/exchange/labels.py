"""The labels that came with a set, and whether they are those of its originals."""

import csv
import io
from pathlib import Path

import numpy as np

from ugejax.app.exchange.arrays import read_npy
from ugejax.app.exchange.files import opened
from ugejax.app.exchange.form import of_train
from ugejax.data import Splits
from ugejax.data.arrays import class_indices
from ugejax.errors import UserError

# Bytes that a line of a table may take for each image.
_LINE = 1024


def read_labels(path: Path, splits: Splits) -> np.ndarray:
    """The labels in a file, in the order of the images, int [M].

    Args:
        path: `.npy` (integers [M] or one-hot [M, K]); `.txt`, one whole number a line; or `.csv` with a column `label`
            and, if the lines are not in order, a column `index`, such as the manifest of a release, or `file_name`
            (0.png, 1.png and so on).
        splits: the originals, which say how many there can be.

    Raises:
        UserError: it cannot be read or is none of these.
    """
    if path.suffix == ".npy":
        return read_npy(path, most=splits.n_available * len(splits.train.class_names))
    if path.suffix not in (".txt", ".csv"):
        raise UserError(f"{path}: labels are a .npy, .txt or .csv file")
    with opened(path, most=_LINE * splits.n_available) as file:
        content = file.read()
    try:
        text = content.decode()
        return np.array(_column(text) if path.suffix == ".csv" else [int(line) for line in text.split()], np.int64)
    # OverflowError where a number does not fit, TypeError and AttributeError where a line is short.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        kind = "a table with a column 'label'" if path.suffix == ".csv" else "a whole number a line"
        raise UserError(f"{path}: not {kind}") from error


def _column(text: str) -> list[int]:
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    labels = [int(row["label"]) for row in rows]
    column = next((name for name in ("index", "file_name") if rows and name in rows[0]), None)
    if column is None:
        return labels
    by_index = dict(zip((int(row[column].removesuffix(".png")) for row in rows), labels, strict=True))
    return [by_index[index] for index in range(len(rows))]


def check_labels(labels: np.ndarray, splits: Splits, where: str) -> None:
    """Refuses a set whose labels are not those of its originals, which are then others, or in another order.

    Args:
        labels: integers [M] or one-hot [M, K], for all images of the source or for the train images.
        splits: the originals.
        where: what a message calls the labels.

    Raises:
        UserError: they are of another kind or number, or differ.
    """
    labels = class_indices(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{where}: {labels.dtype} {list(labels.shape)}; labels are integers [N] or one-hot [N, K]")
    wrong = np.flatnonzero(of_train(labels, splits, where) != splits.train.labels)
    if wrong.size:
        raise UserError(
            f"{where}: {wrong.size} labels are not those of the originals, that of image {wrong[0]} the first; "
            "name the originals that it was made of, in the same order"
        )
