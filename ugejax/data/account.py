"""What was found in a source: which parts of it are used for what, what is left out and why, what is odd."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Self

# Files that a line names; the others are counted.
EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class SplitUse:
    """A part of a source, such as its folder `val`: what it is used for (`train`, `test` or `not used`), its images."""

    name: str
    use: str
    images: int


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Files of one kind that are not taken.

    Attributes:
      kind: what they are, in the plural, such as "hidden files".
      files: how many.
      images: how many of them are images by their ending or content; no release protects these.
      examples: a few of them, images first.
    """

    kind: str
    files: int
    images: int
    examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Account:
    """What was found in a source, beside its images.

    Attributes:
      form: what kind of source it is.
      splits: its parts and what they are used for; empty where it has none.
      left_out: files that are not taken.
      unreadable: files that look like images and cannot be read, with the reason for each.
      warnings: what is odd, a line each.
    """

    form: str
    splits: tuple[SplitUse, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unprotected(self) -> int:
        """How many images were found that are not in the release and not held out as test images either."""
        unused = sum(split.images for split in self.splits if split.use == "not used")
        return unused + sum(kind.images for kind in self.left_out) + len(self.unreadable)

    def to_card(self) -> dict[str, Any]:
        """What the card says: kinds and numbers, never the owner's file names; nothing where everything is taken."""
        counted = {kind.kind: kind.files for kind in self.left_out}
        counted |= {"images that cannot be read": len(self.unreadable)} if self.unreadable else {}
        unused = {split.name: split.images for split in self.splits if split.use == "not used"}
        return {name: found for name, found in (("left_out", counted), ("unused_splits", unused)) if found}

    def extended(self, *, unreadable: Iterable[tuple[str, str]] = (), warnings: Iterable[str] = ()) -> Self:
        """The account with more files that cannot be read, or more warnings."""
        return dataclasses.replace(
            self, unreadable=(*self.unreadable, *unreadable), warnings=(*self.warnings, *warnings)
        )


def some(names: Sequence[str], most: int = EXAMPLES) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def shown(text: Any) -> str:
    r"""A name for a message of one line: what no terminal prints is escaped, such as \udce9 or \n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
