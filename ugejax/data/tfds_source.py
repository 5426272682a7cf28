"""TensorFlow Datasets that lie on the disk as array_record, read without TensorFlow."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.data.account import Account, SplitUse
from ugejax.data.image_file import decode_images
from ugejax.data.part import Encoded, Opened, Part
from ugejax.errors import UserError

# Records read at a time: enough for the reader's threads, and little memory even for large photographs.
_CHUNK = 2048
# By which a description names the class of a feature, today and formerly.
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
# The classes of features that TFDS has by itself: any other name it would take for a module to import.
_FEATURE_CLASSES = frozenset(
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "audio_feature.Audio", "bounding_boxes.BBoxFeature", "class_label_feature.ClassLabel",
        "dataset_feature.Dataset", "feature.Tensor", "features_dict.FeaturesDict", "image_feature.Image",
        "labeled_image.LabeledImage", "scalar.Scalar", "sequence_feature.Sequence", "tensor_feature.Tensor",
        "text_feature.Text", "translation_feature.Translation", "translation_feature.TranslationVariableLanguages",
        "video_feature.Video",
    )
)  # fmt: skip
# Ids such as train_00017; no more digits than an index has, so that every one of them is a small number.
_NUMBERED = re.compile(rb"[a-z]+_(\d{1,9})")


def open_tfds(name: str, data_dir: str | None, *, image_size: int | None) -> Opened:
    """The splits `train`, and `test` or else `validation`, of a prepared data set with features `image` and `label`.

    Where the set numbers its images, as CIFAR does by its feature `id`, they come in that order, in which it was
    published: TFDS itself stores them shuffled. Labels are read without decoding an image. Nothing is ever downloaded.
    Images are decoded by Pillow, whatever else is installed, so that the same files give the same pixels everywhere.

    Args:
      name: TFDS name, `dataset[/config][:version]`.
      data_dir: folder of prepared data sets, or None for TFDS's own default.
      image_size: see `decode_image`.

    Raises:
      UserError: no such data set, not prepared in this folder or in this format, or not a set of labelled images.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils.file_utils import list_data_dirs

    where = f"TFDS dataset {name!r}"
    folder = "the default folder of TFDS" if data_dir is None else data_dir
    prepare = (
        f"prepare it once where TensorFlow is installed: tfds.builder({name!r}, data_dir=..., "
        "file_format='array_record').download_and_prepare(), then name that folder as the data folder (`data_dir`)"
    )
    for place in list_data_dirs(data_dir):  # as TFDS looks for it
        _check_features(Path(place) / re.split("[/:]", name)[0], where)
    try:
        # Typed Any here and below: the annotations of TFDS name base classes only.
        builder: Any = tfds.builder(name, data_dir=data_dir)
    # TFDS raises ValueError, AssertionError and its own for what it does not know, and more for damaged files.
    except Exception as error:
        raise UserError(
            f"{where}: TFDS knows no such dataset, configuration or version, and {folder} holds none that is "
            "whole; check the name, or give a file or folder that exists"
        ) from error
    splits = builder.info.splits
    if "train" not in splits:
        raise UserError(f"{where}: no prepared train split in {folder}; {prepare}")
    features: Any = builder.info.features
    if not (
        isinstance(features, tfds.features.FeaturesDict)
        and {"image", "label"} <= set(features)
        and isinstance(features["image"], tfds.features.Image)
        and isinstance(features["label"], tfds.features.ClassLabel)
    ):
        raise UserError(f"{where}: not a set of labelled images (it needs the features 'image' and 'label')")
    label_feature: Any = features["label"]
    class_names = tuple(label_feature.names)

    def part(split: str) -> Part:
        try:
            source = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        except NotImplementedError as error:
            raise UserError(f"{where}: not in a format with random access; {prepare}") from error
        except Exception as error:
            raise _damaged(f"{where}, split {split}", folder) from error
        return _part(source, f"{where}, split {split}", folder, class_names, image_size)

    test = next((split for split in ("test", "validation") if split in splits), None)
    uses = {"train": "train", test: "test"}
    account = Account(
        "TFDS data set",
        tuple(SplitUse(split, uses.get(split, "not used"), info.num_examples) for split, info in splits.items()),
    )
    return Opened(part("train"), None if test is None else part(test), account)


def _check_features(folder: Path, where: str) -> None:
    """Refuses a data set whose description names classes that are not TFDS's own: it would import their modules.

    Links are refused as well, which may lead to a description that is not looked at here; the data set's folder itself
    may be one.
    """

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            if key in _CLASS_KEYS and value not in _FEATURE_CLASSES:
                raise UserError(f"{where}: {file} names a class of features that is not TFDS's own; it is not imported")
        return {}

    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(file := os.path.join(parent, name)):
                raise UserError(f"{where}: {file} is a link, which is not followed in a data set; put a copy there")
            if name == "features.json":
                try:
                    json.loads(Path(file).read_bytes(), object_pairs_hook=look)
                except UserError:
                    raise
                except (OSError, ValueError, TypeError, RecursionError) as error:
                    raise UserError(f"{where}: {file} is damaged; prepare it again") from error


def _part(source: Any, where: str, folder: str, class_names: tuple[str, ...], image_size: int | None) -> Part:
    # TFDS's own parser makes an array of every feature, which takes it several times as long as all the rest.
    from tensorflow_datasets.proto import tf_example_pb2

    parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]

    def each(indices: np.ndarray, value: Callable[[Any], Any]) -> list[Any]:
        """A value of the features of each record, which are protocol buffers by name."""
        try:
            records = source.__getitems__(indices.tolist())
            return [value(parse(record).features.feature) for record in records]
        # Damaged shards show as whatever the reader or the parser stumbles over.
        except Exception as error:
            raise _damaged(where, folder) from error

    def label_and_name(features: Any) -> tuple[int, bytes | None]:
        name = features["id"].bytes_list.value if "id" in features else ()
        return features["label"].int64_list.value[0], next(iter(name), None)

    def image(features: Any) -> bytes:
        return features["image"].bytes_list.value[0]

    n = len(source)
    chunks = (np.arange(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))
    known = [found for chunk in chunks for found in each(chunk, label_and_name)]
    order = _published_order([name for _, name in known])

    def encoded(indices: np.ndarray) -> Encoded:
        chosen = order[indices]
        return [(f"{where}, image {i}", found) for i, found in zip(chosen, each(chosen, image), strict=True)]

    def read(indices: np.ndarray) -> np.ndarray:
        return decode_images(len(indices), lambda start, stop: encoded(indices[start:stop]), image_size=image_size)

    return Part(where, np.array([label for label, _ in known], np.int32)[order], class_names, read, encoded)


def _published_order(names: list[Any]) -> np.ndarray:
    """Where the images lie that are numbered 0, 1, 2 and so on, int64 [N]; as they lie if they are not so numbered."""
    numbers = [_NUMBERED.fullmatch(name) if isinstance(name, bytes) else None for name in names]
    found = np.array([-1 if match is None else int(match[1]) for match in numbers], np.int64)
    numbered = np.array_equal(np.sort(found), np.arange(len(names)))
    return np.argsort(found) if numbered else np.arange(len(names))


def _damaged(where: str, folder: str) -> UserError:
    return UserError(f"{where}: its files in {folder} are missing or damaged; prepare it again")
