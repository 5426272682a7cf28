"""What lies in a folder and below it, sorted out by kind; nothing is decoded."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ugejax.data.account import EXAMPLES, LeftOut, shown
from ugejax.data.kinds import (
    OTHER_ENDINGS,
    READABLE,
    READABLE_ENDINGS,
    UNREADABLE_ENDINGS,
    UNREADABLE_FORMATS,
    format_of,
    is_hidden,
    is_system,
)
from ugejax.errors import UserError

IMAGE = "images"
# What a kind of file ends with that is an image and is not read: "HEIC images", "raw camera images".
UNREAD = " images"
LINKS = "links to folders"
_HEAD = 132


@dataclasses.dataclass(frozen=True)
class File:
    """A file: IMAGE is taken; a kind that ends with UNREAD is an image that cannot be read; all others are left out.

    Attributes:
      path: of the file.
      kind: what it is, in the plural.
      shows: whether it is an image by its ending or content, taken or not.
    """

    path: Path
    kind: str
    shows: bool

    @property
    def unread(self) -> bool:
        """Whether it is an image of a kind that cannot be read."""
        return self.kind != IMAGE and self.kind.endswith(UNREAD)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder and all that is in it, by name.

    Attributes:
      path: of the folder.
      entries: folders that people made, and files; what is in a folder of a system, or hidden, stands here as files.
      linked: whether the path is a link to the folder.
    """

    path: Path
    entries: tuple["Folder | File", ...]
    linked: bool = False

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.name

    @property
    def folders(self) -> list["Folder"]:
        """The folders directly in it."""
        return [entry for entry in self.entries if isinstance(entry, Folder)]

    @property
    def own(self) -> list[File]:
        """The files directly in it."""
        return [entry for entry in self.entries if isinstance(entry, File)]

    def files(self) -> Iterator[File]:
        """All files in it and below, by the names of folders and files; links below it are not followed."""
        for entry in self.entries:
            if isinstance(entry, File):
                yield entry
            elif entry.linked:
                yield File(entry.path, LINKS, False)
            else:
                yield from entry.files()

    def images(self) -> int:
        """How many images people have put into it and below, whether they can be read or not."""
        return sum(file.kind == IMAGE or file.unread for file in self.files())

    def shown(self) -> int:
        """How many files in it and below are images by ending or content, hidden ones and thumbnails among them."""
        return sum(file.shows for file in self.files())


def look_through(root: Path, *, links: int = 2) -> Folder:
    """A folder and all that is in it.

    Links to folders are followed in the first levels alone, where classes are, and never to where they come from; below
    and in a circle they are left out, since they would never end.

    Args:
      root: the folder.
      links: levels below it in which links are followed.

    Raises:
      UserError: a folder cannot be listed.
    """
    return _look(root, links, (os.path.realpath(root),))


def _look(folder: Path, links: int, above: tuple[str, ...], *, linked: bool = False) -> Folder:
    found: list[Folder | File] = []
    for name, is_folder, is_link in _entries(folder):
        path = folder / name
        foreign = "files of a system" if is_system(name) else "hidden files" if is_hidden(name) else ""
        if not is_folder:
            file = _own_kind(path)
            found.append(dataclasses.replace(file, kind=foreign) if foreign else file)
        elif foreign:
            found += _foreign(path, foreign, is_link)
        elif not is_link:
            found.append(_look(path, links - 1, above))
        else:
            real = os.path.realpath(path)
            if links > 0 and not any(place == real or place.startswith(real + os.sep) for place in above):
                found.append(_look(path, links - 1, (*above, real), linked=True))
            else:
                found.append(File(path, LINKS, False))
    return Folder(folder, tuple(found), linked)


def _entries(folder: Path) -> list[tuple[str, bool, bool]]:
    """Of each entry its name, whether it is a folder or a link to one, and whether it is a link; by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries)
    except OSError as error:
        raise UserError(
            f"{shown(folder)}: cannot list it ({error.strerror}); check that it is a folder you may read"
        ) from error


def _foreign(folder: Path, kind: str, is_link: bool) -> Iterator[File]:
    """The files of a folder that is a system's own or hidden; one that is empty or a link stands for itself."""
    empty = True
    if not is_link:
        for parent, _, names in os.walk(folder):
            for name in names:
                empty = False
                yield File(Path(parent, name), kind, _own_kind(Path(parent, name)).shows)
    if empty:
        yield File(folder, kind, False)


def _own_kind(path: Path) -> File:
    """A file with its kind, whoever has put it there."""
    ending = os.path.splitext(path.name)[1].lower()
    if ending in READABLE_ENDINGS:
        return File(path, IMAGE, True)
    if ending in UNREADABLE_ENDINGS:
        return File(path, UNREADABLE_ENDINGS[ending] + UNREAD, True)
    if ending in OTHER_ENDINGS:
        return File(path, OTHER_ENDINGS[ending], False)
    kind = _content(path)
    if kind in READABLE and not ending:
        return File(path, IMAGE, True)
    if kind in READABLE:
        return File(path, f"images with the ending {shown(ending)[:20]}, which is none of an image's", True)
    if kind in UNREADABLE_FORMATS:
        return File(path, f"{kind}{UNREAD}", True)
    return File(path, "other files", False)


def _content(path: Path) -> str | None:
    """What a file is by how it begins; None also for one that cannot be read."""
    try:
        if not path.is_file():  # a pipe would never end
            return None
        with open(path, "rb") as file:
            return format_of(file.read(_HEAD))
    except OSError:
        return None


def sorted_out(files: Iterable[File], root: Path) -> tuple[LeftOut, ...]:
    """Files that are left out, counted by kind; their names are told from the root."""
    kinds: dict[str, list[File]] = collections.defaultdict(list)
    for file in sorted(files, key=lambda file: (not file.shows, file.path)):
        kinds[file.kind].append(file)
    return tuple(
        LeftOut(
            kind, len(found), sum(file.shows for file in found),
            tuple(shown(file.path.relative_to(root)) for file in found[:EXAMPLES]),
        )
        for kind, found in sorted(kinds.items())
    )  # fmt: skip
