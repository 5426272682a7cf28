"""Sources of images by name or path, and their train and test parts."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from ugejax.data.account import Account, shown
from ugejax.data.arrays import open_npy_pair, open_npz, part_of_arrays
from ugejax.data.dataset import Dataset, Splits, Streamed
from ugejax.data.digits_photos import open_digits_photos
from ugejax.data.duplicates import duplicates
from ugejax.data.folder import open_folder
from ugejax.data.image_file import Unreadable, decode_image, on_all_cores
from ugejax.data.kinds import is_text
from ugejax.data.others import open_other
from ugejax.data.part import Opened, Part
from ugejax.data.stream import OfEach
from ugejax.data.tfds_source import open_tfds
from ugejax.errors import UserError

_TFDS_NAME = re.compile(r"([a-z][a-z0-9_]*)(/\w[\w.-]*)?(:\d+\.\d+\.\d+)?")
# Share of `digits`, which has no test images of its own, that is held out.
_DIGITS_TEST_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Source:
    """Which images to take, and how many of them.

    Attributes:
      name: one of
        `digits`: scikit-learn's 1,797 handwritten digits, 8 x 8, grey;
        `digits-photos`: the same digits in crops of photographs, 32 x 32, in colour, see `open_digits_photos`;
        a TFDS name, such as `cifar10`;
        an image folder, see `open_folder`;
        an `.npz` file, see `open_npz`;
        a folder with `images.npy` and `labels.npy`, or two such files as `IMAGES.npy,LABELS.npy`;
        what other tools save, see `open_other`.
        A path that exists wins over a TFDS name, unless data_dir has a data set of that name.
      data_dir: folder of prepared TFDS data sets, or None for TFDS's default; other sources ignore it.
      n_train: size of the stratified subset to train on, None for all.
      n_test: size of the stratified subset to test on, None for all. A source without test images has this many
        held out (`digits` 20 % unless told; others none).
      seed: of the subsets and of what is held out.
      image_size: side of the square to which images of another size are scaled and cropped, None to leave them alone.
      skip_unreadable: whether images that cannot be read are left out, in place of being an error.

    Raises:
      UserError: a number is out of range or a value of the wrong type.
    """

    name: str
    data_dir: str | None = None
    n_train: int | None = None
    n_test: int | None = None
    seed: int = 0
    image_size: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"a source needs a name or path, not {self.name!r}")
        if not is_text(self.name):
            raise UserError(f"{shown(self.name)}: this path is not UTF-8, in which a card is written; rename it")
        if not isinstance(self.skip_unreadable, bool):
            raise UserError(f"skip_unreadable must be true or false, not {self.skip_unreadable!r}")
        if not (self.data_dir is None or isinstance(self.data_dir, str)):
            raise UserError(f"the data folder must be text, not {self.data_dir!r}")
        for field, least in (("n_train", 1), ("n_test", 1), ("image_size", 1), ("seed", 0)):
            value = getattr(self, field)
            if value is None and field != "seed":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"{field} must be a whole number of at least {least}, not {value!r}")

    def absolute(self) -> Self:
        """The source as it holds from any folder: paths become absolute, names of data sets stay as they are."""
        name = self.name
        if name not in _EMBEDDED and not _is_prepared(name, self.data_dir) and _exists(_path(_split(name)[0])):
            name = ",".join(os.path.abspath(_path(path)) for path in _split(name))
        return dataclasses.replace(self, name=name, data_dir=self.data_dir and os.path.abspath(_path(self.data_dir)))

    def seen_from(self, folder: Path) -> Self:
        """The source with its absolute paths told from a folder: they begin with a dot, and name folders between alone.

        Of a path that has nothing in common with the folder the last part remains, which leads nowhere.
        """
        start = os.path.realpath(folder)

        def told(path: str) -> str:
            place, last = os.path.split(path)
            place = os.path.realpath(place)
            if os.path.dirname(common := os.path.commonpath([place, start])) == common:
                return os.path.join(".", last)
            relative = os.path.relpath(os.path.join(place, last), start)
            return relative if _is_told(relative) else os.path.join(".", relative)

        return self._with_paths(os.path.isabs, told)

    def found_from(self, folder: Path) -> Self:
        """The source that `seen_from` told from that folder, with absolute paths again."""
        return self._with_paths(_is_told, lambda path: os.path.normpath(os.path.join(os.path.realpath(folder), path)))

    @property
    def title(self) -> str:
        """The name for people: the last part of a path."""
        return self._with_paths(lambda path: os.path.isabs(path) or _is_told(path), os.path.basename).name

    def _with_paths(self, chosen: Callable[[str], bool], change: Callable[[str], str]) -> Self:
        def changed(path: str) -> str:
            return change(path) if chosen(path) else path

        name = ",".join(map(changed, _split(self.name)))
        return dataclasses.replace(self, name=name, data_dir=self.data_dir and changed(self.data_dir))

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object; `skip_unreadable` only where it is true, as cards of before have it."""
        fields = dataclasses.asdict(self)
        return fields if self.skip_unreadable else {k: v for k, v in fields.items() if k != "skip_unreadable"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The source whose `to_json` this is.

        Raises:
          UserError: it is no object with these fields.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, Mapping) or "name" not in fields or not set(fields) <= known:
            raise UserError(f"a source must be an object with the fields {', '.join(sorted(known))}, not {fields!r}")
        return cls(**fields)


def _is_told(path: str) -> bool:
    return path.split(os.sep)[0] in (".", "..")


def _split(name: str) -> list[str]:
    """The two paths of a pair of .npy files, else the name alone."""
    images, comma, labels = name.partition(".npy,")
    return [images + ".npy", labels] if comma and name.endswith(".npy") else [name]


def _is_prepared(name: str, data_dir: str | None) -> bool:
    """Whether it is the name of a TFDS data set that is in the folder of prepared ones."""
    tfds_name = _TFDS_NAME.fullmatch(name)
    return bool(tfds_name and data_dir is not None and _exists(_path(data_dir) / tfds_name[1]))


def load(source: Source) -> Splits:
    """Loads the train and test images of a source; the two never share an image.

    Raises:
      UserError: the source is not there, damaged or not fit for use; the message names the file and what to do.
    """
    chosen = open_parts(source)
    train, indices, test = chosen.train, chosen.train_indices, chosen.test
    images, n_available = train.dataset(indices), len(train.labels)
    if test is None:
        return Splits(images, None, indices, n_available, chosen.account)
    beside = test.dataset(chosen.test_indices)
    return Splits(*_same_channels(images, beside), indices, n_available, chosen.account)


def load_stream(source: Source, *, of_each: OfEach = map) -> Streamed:
    """Opens the train images of a source to be read piece by piece; they are those that `load` gives.

    Every image, train or test, is decoded once here, so that nothing begins with a damaged set.

    Args:
      source: where they are, and which of them.
      of_each: has several processes decode a share each, see `ugejax.data.stream.open_stream`.

    Raises:
      UserError: as for `load`.
    """
    chosen = open_parts(source)
    train, test, account = chosen.train, chosen.test, chosen.account
    images, n_test = train.stream(chosen.train_indices, of_each), 0
    labels, beside = train.labels[chosen.train_indices], None
    if test is not None:
        beside = test.stream(chosen.test_indices, of_each)
        _check_sizes(images.image_shape, beside.image_shape)
        channels, n_test = max(images.image_shape[2], beside.image_shape[2]), len(beside)
        images = dataclasses.replace(images, image_shape=(*images.image_shape[:2], channels))
    if images.digests is not None:
        found = duplicates(images.digests, labels, None if beside is None else beside.digests)
        account = account.extended(warnings=found.lines(chosen.name_of))
    return Streamed(images, labels, train.class_names, n_test, account)


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """What is taken of a source: its parts, and the indices of the images of each.

    Attributes:
      train: part of the train images.
      train_indices: ascending int64 [n].
      test: part of the test images, which may be that of the train images; None where there are none.
      test_indices: ascending int64 [m].
      account: what else was found.
    """

    train: Part
    train_indices: np.ndarray
    test: Part | None
    test_indices: np.ndarray
    account: Account

    def name_of(self, place: int) -> str:
        """What a message calls one of the chosen train images, or of the test images behind them."""
        if place < len(self.train_indices):
            return self.train.name(self.train_indices[place])
        return (self.test or self.train).name(self.test_indices[place - len(self.train_indices)])


def open_parts(source: Source, *, lenient: bool = False) -> Chosen:
    """The parts of train and test images, and what is taken of each; no image is decoded unless some are to be skipped.

    Args:
      source: the source.
      lenient: whether images of a kind that cannot be read are left to the account, for whoever only looks.

    Raises:
      UserError: as for `load`.
    """
    opened = _open(source)
    if source.skip_unreadable:
        opened = _without_unreadable(opened, source.image_size)
    elif opened.account.unreadable and not lenient:
        # With those that only decoding shows, so that all are told of in one go.
        raise Unreadable(_without_unreadable(opened, source.image_size).account.unreadable)
    train, test, account = opened.train, opened.test, opened.account
    train.check()
    if test is not None:
        test.check()
        indices = train.subset(source.n_train, source.seed)
        return Chosen(train, indices, test, test.subset(source.n_test, source.seed), account)
    n_test = _held_out(source, train)
    if n_test is None:
        return Chosen(train, train.subset(source.n_train, source.seed), None, np.arange(0), account)
    test_indices = train.subset(n_test, source.seed)
    rest = np.setdiff1d(np.arange(len(train.labels)), test_indices, assume_unique=True)
    remaining = dataclasses.replace(
        train, where=f"{train.where} without its {n_test} test images", labels=train.labels[rest]
    )
    remaining.check()
    return Chosen(train, rest[remaining.subset(source.n_train, source.seed)], train, test_indices, account)


def _without_unreadable(opened: Opened, image_size: int | None) -> Opened:
    """The source without the images that cannot be read: each is decoded, and the account names them."""
    failed: list[tuple[str, str]] = []

    def readable(part: Part) -> Part:
        if part.encoded is None:
            return part
        encoded = part.encoded

        def fails(index: int) -> tuple[str, str] | None:
            ((where, data),) = encoded(np.array([index]))
            try:
                decode_image(data, where=where, image_size=image_size)
            except Unreadable as error:
                return error.files[0]
            return None

        with on_all_cores() as pool:
            found = list(pool.map(fails, range(len(part.labels))))
        failed.extend(why for why in found if why is not None)
        return part.only(np.flatnonzero([why is None for why in found]))

    train, test = readable(opened.train), opened.test and readable(opened.test)
    left = {"train": len(train.labels), "test": 0 if test is None else len(test.labels)}
    splits = tuple(dataclasses.replace(s, images=left.get(s.use, s.images)) for s in opened.account.splits)
    account = dataclasses.replace(opened.account.extended(unreadable=failed), splits=splits)
    return Opened(train, test, account)


def load_all(source: Source) -> Dataset:
    """Loads a source as test images: its test part where it has one, otherwise everything in it, whatever n_train is.

    Raises:
      UserError: as for `load`.
    """
    opened = _open(source)
    if source.skip_unreadable:
        opened = _without_unreadable(opened, source.image_size)
    test, n_test = opened.test, source.n_test
    if test is None:
        test, n_test = opened.train, _held_out(source, opened.train)
    test.check()
    return test.dataset(test.subset(n_test, source.seed))


def _open(source: Source) -> Opened:
    name, size = source.name, source.image_size
    if name in _EMBEDDED:
        return _EMBEDDED[name](size)
    if len(paths := _split(name)) == 2:
        images, labels = map(_path, paths)
        return open_npy_pair(images, labels, image_size=size)
    path = _path(name)
    if _is_prepared(name, source.data_dir) or (_TFDS_NAME.fullmatch(name) and not _exists(path)):
        return open_tfds(name, source.data_dir, image_size=size)
    if not _exists(path):
        raise UserError(
            f"{name}: no such file or folder, and neither 'digits' nor 'digits-photos' nor the name of a TFDS dataset"
        )
    if path.is_dir() and (path / "images.npy").is_file():
        return open_npy_pair(path / "images.npy", path / "labels.npy", image_size=size)
    if (other := open_other(path, image_size=size)) is not None:
        return other
    if path.is_dir():
        return open_folder(path, image_size=size)
    if path.suffix == ".npz":
        return open_npz(path, image_size=size)
    if path.suffix == ".npy":
        raise UserError(f"{name}: a .npy file needs its labels: give IMAGES.npy,LABELS.npy")
    raise UserError(f"{name}: not a readable kind of file; give a folder of images, an .npz or a pair of .npy files")


def _open_digits(image_size: int | None) -> Opened:
    # Here, since scikit-learn takes a second to import.
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    part, _ = part_of_arrays("digits", values.reshape(-1, 8, 8) / 16, labels, None, image_size)
    return Opened(part, None, Account("scikit-learn's digits"))


# The sources that come with the dependencies, by name.
_EMBEDDED = {"digits": _open_digits, "digits-photos": open_digits_photos}


def _held_out(source: Source, part: Part) -> int | None:
    if source.n_test is None and source.name == "digits":
        return round(_DIGITS_TEST_SHARE * len(part.labels))
    return source.n_test


def _same_channels(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Makes the grey one RGB where only one of the two has colour, which mixed folders may yield."""
    channels = max(train.images.shape[-1], test.images.shape[-1])
    train, test = (
        s if s.images.shape[-1] == channels else dataclasses.replace(s, images=np.repeat(s.images, channels, axis=-1))
        for s in (train, test)
    )
    _check_sizes(train.images.shape[1:], test.images.shape[1:])
    return train, test


def _check_sizes(train: tuple[int, ...], test: tuple[int, ...]) -> None:
    if train[:2] != test[:2]:
        raise UserError(
            f"train and test images differ in size ({train[:2]} and {test[:2]}): give an image size to resize all"
        )


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name}: there is no such user") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise UserError(f"{path}: cannot look at it ({error.strerror})") from error
