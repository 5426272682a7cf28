"""A folder that Hugging Face `datasets` loads by its path: PNG files, a table of labels, class names in a card."""

import csv
import io
import json
from pathlib import Path

from ugejax.app.exchange.form import Exported, Form, Imported
from ugejax.app.exchange.labels import read_labels
from ugejax.app.exchange.png import read_numbered
from ugejax.app.files import synced
from ugejax.app.release.write import write_images
from ugejax.data import Splits


def _read(place: str, splits: Splits) -> Imported:
    folder = Path(place) / "train"
    images, digests = read_numbered(folder, splits, place)
    return Imported(images, read_labels(folder / "metadata.csv", splits), digests)


def _write(path: Path, exported: Exported) -> None:
    path.mkdir()
    write_images(path / "train", exported.images)
    with synced(path / "train" / "metadata.csv") as file:
        file.write(_metadata(exported))
    with synced(path / "README.md") as file:
        file.write(_card(exported.class_names).encode())


def _metadata(exported: Exported) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file_name", "label"))
    writer.writerows((f"{index}.png", label) for index, label in enumerate(exported.labels.tolist()))
    return text.getvalue().encode()


def _card(class_names: tuple[str, ...]) -> str:
    # A JSON text is a YAML text.
    quoted = (json.dumps(name, ensure_ascii=False) for name in class_names)
    names = "".join(f"\n          '{index}': {name}" for index, name in enumerate(quoted))
    return f"""---
configs:
- config_name: default
  data_files: train/*
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:{names}
---
Protected images, lossless: saved as JPEG they lose the perturbation and what the key depends on.
"""


HF = Form(_read, _write, "folder of PNG files with metadata.csv and a card: Hugging Face datasets")
