"""Image folders: one folder per class, or those in folders named like splits, such as `train` and `test`.

What a folder means is decided by its names alone, before an image is decoded, and what could mean two things is
refused: a protection of the wrong task protects nothing.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ugejax.data.account import Account, SplitUse, shown, some
from ugejax.data.image_file import decode_images
from ugejax.data.kinds import READABLE, is_text, plain
from ugejax.data.part import Encoded, Opened, Part
from ugejax.data.tree import IMAGE, LINKS, File, Folder, look_through, sorted_out
from ugejax.errors import UserError

_TRAIN = ("train", "training")
# In the order in which they are preferred.
_TEST = ("test", "val", "validation", "testing", "valid", "eval")
# Names of folders that say what is in them, and no class.
_GENERIC = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "labels", "masks", "annotations", "data", "pictures", "photos"}
)
# What TinyImageNet says of its validation images: file, class and box, between tabs.
_ANNOTATIONS = "val_annotations.txt"


@dataclasses.dataclass(frozen=True)
class _Labelled:
    """Images with their classes.

    Attributes:
      where: the folder.
      names: of the classes.
      files: of all images.
      labels: of each its class.
    """

    where: Path
    names: tuple[str, ...]
    files: list[Path]
    labels: list[int]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """What the folders of a source are: class folders of the train images, the folder above them, and the others."""

    classes: list[Folder]
    above: Folder
    tests: list[Folder]
    unused: list[Folder]


def open_folder(root: Path, *, image_size: int | None) -> Opened:
    """The train and test parts of an image folder.

    Each folder in `root` is a class, unless one is named `train` or `training`, in any case, and has class folders in
    it: these are the classes then, and the first of `test`, `val`, `validation`, `testing`, `valid` and `eval` that has
    the same holds the test images; one with the file `val_annotations.txt` of TinyImageNet may have all its images in
    one folder. Classes and images come in the order of their names; images may lie in folders below their class. Names
    of classes that differ in how an accent is written are one class. What is hidden, a system's own or of a kind that
    is not read is left out, and the account tells of it; what looks like an image and is none is an error when it is
    read.

    Raises:
      UserError: no class folders, a class without images, a folder that cannot be listed, a class name that is not
        UTF-8, or folders that could mean more than one thing.
    """
    tree = look_through(root)
    layout = _layout(tree)
    classes, merged = _named(layout.classes)
    train = _labelled(layout.above.path, classes)
    test, unused, left_out = _test_images(layout, classes)
    splits: tuple[SplitUse, ...] = ()
    if layout.above is not tree:
        splits = (SplitUse(shown(layout.above.name), "train", len(train.files)),)
        if test is not None:
            splits += (SplitUse(shown(test.where.name), "test", len(test.files)),)
        splits += tuple(SplitUse(shown(folder.name), "not used", folder.shown()) for folder in unused)
        left_out += [file for folder in unused for file in folder.files() if file.kind == LINKS]
    else:
        merged += _shared_folders(classes)
    for folders in classes.values():
        left_out += [file for folder in folders for file in folder.files() if file.kind != IMAGE]
    left_out += _loose(tree) + (_loose(layout.above) if layout.above is not tree else [])
    unread = [file for file in left_out if file.unread]
    account = Account(
        "image folder",
        splits,
        sorted_out((file for file in left_out if not file.unread), root),
        tuple((shown(file.path), f"one of the {file.kind}, which are not read; convert it to PNG") for file in unread),
        (*merged, *_odd_names(list(classes))),
    )
    return Opened(_part(train, image_size), None if test is None else _part(test, image_size), account)


def _layout(tree: Folder) -> _Layout:
    """Which folders are classes.

    Raises:
      UserError: that cannot be told.
    """
    where, folders = shown(tree.path), tree.folders
    _check_names_differ(where, folders)
    trains = [folder for folder in folders if _role(folder) in _TRAIN]
    tests = sorted(
        (folder for folder in folders if _role(folder) in _TEST), key=lambda folder: _TEST.index(_role(folder))
    )
    others = [folder for folder in folders if folder not in trains and folder not in tests]
    if len(trains) > 1:
        raise UserError(f"{where}: holds {_names(trains)}: which of them holds the train images? name that one")
    if trains and not _is_flat(trains[0]):
        (train,) = trains
        if not tests and sum(bool(folder.images()) for folder in others) > 1:
            raise UserError(
                f"{where}: {_names(trains)} could be a class beside {_names(others)}, or hold classes of its own "
                f"({_names(train.folders)}); name {shown(train.path)} if it does, or else rename it"
            )
        nested = [folder for folder in train.folders if _role(folder) in (*_TRAIN, *_TEST)]
        if len(nested) == 1:
            raise UserError(
                f"{shown(train.path)}: holds {_names(nested)}, named like a split within a split; name the folder that "
                "holds the classes, or rename it if it is a class"
            )
        layout = _Layout(train.folders, train, tests, others)
    elif trains and (tests or not others):
        raise UserError(
            f"{shown(trains[0].path)}: no class folders in it, and its name is that of a split; put the images of each "
            f"class into a folder of their own, {shown(trains[0].name)}/CLASS"
        )
    elif tests and (len(tests) > 1 or not others or _has_classes(tests[0], others)):
        raise UserError(
            f"{where}: {_names(tests)}: named like test images, but nothing is named like train images; put the "
            "folders of the classes to be protected into train, or name the folder that holds them"
        )
    elif tests and len(others) > 1:
        raise UserError(
            f"{where}: {_names(tests)} could be a class beside {_names(others)}, or hold test images; rename it if it "
            "is a class, or else put the others into train"
        )
    else:
        layout = _Layout(folders, tree, [], [])
    if not layout.classes:
        raise UserError(f"{where}: no class folders in it; put the images of each class into a folder of their own")
    _check_classes(layout)
    return layout


def _check_names_differ(where: str, folders: list[Folder]) -> None:
    roles = collections.Counter(map(_role, folders))
    for folder in folders:
        if _role(folder) in (*_TRAIN, *_TEST) and roles[_role(folder)] > 1:
            same = [other for other in folders if _role(other) == _role(folder)]
            raise UserError(f"{where}: holds {_names(same)}, which are one split; put their images together")


def _check_classes(layout: _Layout) -> None:
    """Refuse class folders that are none: those of splits within each class, or all named for what is in them."""
    where, classes = shown(layout.above.path), layout.classes
    if len({_role(folder) for folder in classes} & {*_TRAIN, *_TEST}) > 1:
        raise UserError(f"{where}: holds {_names(classes)}, which are named like splits; name {where} as the source")
    within = sorted({_role(folder) for one in classes for folder in one.folders} & {*_TRAIN, *_TEST})
    if len(within) > 1:
        if len(classes) == 1:
            raise UserError(f"{where}: all is in {_names(classes)}, which holds splits; name {shown(classes[0].path)}")
        raise UserError(
            f"{where}: its folders, such as {_names(classes[:1])}, hold {' and '.join(within)}; splits must lie above "
            f"classes, {within[0]}/CLASS, or all of a class is protected as one"
        )
    if len(classes) > 1 and all(plain(folder.name).lower() in _GENERIC for folder in classes):
        raise UserError(
            f"{where}: {_names(classes)} are named for what is in them and not for classes; put the images of each "
            "class into a folder of their own"
        )
    for folder in classes:
        if not is_text(folder.name):
            raise UserError(
                f"{shown(folder.path)}: the name of this class is not UTF-8, in which a release is written; rename it"
            )


def _named(folders: list[Folder]) -> tuple[dict[str, list[Folder]], list[str]]:
    """Classes by name, with the folders of each, and a line for each that has several.

    Two folders of one class differ in how their name is written; a class of one folder keeps its name as it is.
    """
    groups: dict[str, list[Folder]] = collections.defaultdict(list)
    for folder in folders:
        groups[plain(folder.name)].append(folder)
    lines = [
        f"{shown(name)}: {len(group)} folders whose names differ only in how an accent is written; they are one class"
        for name, group in groups.items()
        if len(group) > 1
    ]
    return {group[0].name if len(group) == 1 else name: group for name, group in groups.items()}, lines


def _labelled(where: Path, classes: dict[str, list[Folder]]) -> _Labelled:
    files: list[Path] = []
    labels: list[int] = []
    for label, folders in enumerate(classes.values()):
        found = [file.path for folder in folders for file in folder.files() if file.kind == IMAGE]
        if not found:
            unread = collections.Counter(file.kind for folder in folders for file in folder.files() if file.unread)
            there = ", ".join(f"{count} {kind}" for kind, count in unread.items())
            raise UserError(
                f"{shown(folders[0].path)}: an empty class (no {', '.join(READABLE)} file"
                f"{f', but {there}' if there else ''}); add images or remove the folder"
            )
        files += found
        labels += [label] * len(found)
    return _Labelled(where, tuple(classes), files, labels)


def _test_images(
    layout: _Layout, classes: dict[str, list[Folder]]
) -> tuple[_Labelled | None, list[Folder], list[File]]:
    """The test images, the folders that are used for nothing, and the files that are left out of those of the test."""
    candidates = [folder for folder in layout.tests if folder.images()]
    wanted = {plain(name): name for name in classes}
    found, left_out = None, []
    for folder in candidates:
        by_name: dict[str, list[Folder]] = collections.defaultdict(list)
        for one in folder.folders:
            by_name[plain(one.name)].append(one)
        if _is_flat(folder):
            found, left_out = _annotated(folder, tuple(classes))
        elif by_name.keys() == wanted.keys():
            found = _labelled(folder.path, {wanted[name]: by_name[name] for name in wanted})
            left_out = [file for one in folder.folders for file in one.files() if file.kind != IMAGE] + _loose(folder)
        if found is not None:
            return found, [other for other in (*layout.tests, *layout.unused) if other is not folder], left_out
    for folder in candidates:
        if _is_flat(folder):
            raise UserError(
                f"{shown(folder.path)}: no class folders in it, so nobody knows what its images show; put those of "
                "each class into a folder of their own (ImageNet's valprep.sh does), or name "
                f"{shown(layout.above.path)} to go without test images"
            )
        differing = sorted({plain(one.name) for one in folder.folders} ^ wanted.keys())[0]
        raise UserError(
            f"{shown(folder.path)}: its class folders must be those of {shown(layout.above.path)}, but only one of "
            f"them has {differing!r}"
        )
    return None, [*layout.tests, *layout.unused], []


def _annotated(folder: Folder, names: tuple[str, ...]) -> tuple[_Labelled | None, list[File]]:
    """Images that TinyImageNet's table gives their classes, and the others; None where there is no such table."""
    table = next((file.path for file in folder.own if file.path.name == _ANNOTATIONS), None)
    if table is None:
        return None, []
    try:
        rows = [line.split("\t") for line in table.read_text("utf-8").splitlines() if line]
        class_of = {row[0]: names.index(row[1]) for row in rows if row[1] in names}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{shown(table)}: not a table of file and class, between tabs; get it again") from error
    taken = [file for file in folder.files() if file.kind == IMAGE and file.path.name in class_of]
    labels = [class_of[file.path.name] for file in taken]
    without = {*taken, *(file for file in folder.own if file.path == table)}
    left_out = [
        dataclasses.replace(file, kind=f"images that {_ANNOTATIONS} has no class for") if file.kind == IMAGE else file
        for file in folder.files()
        if file not in without
    ]
    return _Labelled(folder.path, names, [file.path for file in taken], labels), left_out


def _loose(folder: Folder) -> list[File]:
    """Files beside class folders; images among them have no class."""
    return [
        dataclasses.replace(file, kind="images beside the class folders") if file.kind == IMAGE else file
        for file in folder.own
    ]


def _odd_names(names: Sequence[str]) -> Iterable[str]:
    by_case: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        by_case[plain(name).casefold()].append(shown(name))
    for same in by_case.values():
        if len(same) > 1:
            yield (
                f"the classes {' and '.join(same)} differ in case alone: as folders such a release cannot be unpacked "
                "on every system"
            )
    for name in names:
        if plain(name).strip().lower() in (*_GENERIC, *_TRAIN, *_TEST):
            yield f"the folder {shown(name)} is taken for a class"


def _shared_folders(classes: dict[str, list[Folder]]) -> list[str]:
    """A line where every class has the same folders in it, and no image beside them: these may be the classes."""
    inner = [{plain(one.name) for folder in folders for one in folder.folders} for folders in classes.values()]
    beside = any(file.kind == IMAGE for folders in classes.values() for folder in folders for file in folder.own)
    if beside or len(inner) < 2 or len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return []
    return [
        f"each class has the same folders in it ({some(sorted(map(shown, inner[0])))}): if these are the classes, put "
        "them above"
    ]


def _role(folder: Folder) -> str:
    return plain(folder.name).strip().lower()


def _is_flat(folder: Folder) -> bool:
    """Whether images lie in a folder without class folders, or in one for all."""
    return all(plain(one.name).lower() in _GENERIC for one in folder.folders)


def _has_classes(folder: Folder, classes: list[Folder]) -> bool:
    """Whether the folders in a folder are named like folders beside it."""
    return bool({plain(one.name) for one in folder.folders} & {plain(one.name) for one in classes})


def _names(folders: Sequence[Folder]) -> str:
    return some([f"{shown(folder.name)}/" for folder in folders])


def _part(labelled: _Labelled, image_size: int | None) -> Part:
    def encoded(indices: np.ndarray) -> Encoded:
        return [(shown(labelled.files[i]), labelled.files[i]) for i in indices]

    def read(indices: np.ndarray) -> np.ndarray:
        return decode_images(len(indices), lambda start, stop: encoded(indices[start:stop]), image_size=image_size)

    return Part(shown(labelled.where), np.array(labelled.labels, np.int32), labelled.names, read, encoded)
