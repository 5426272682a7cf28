"""Where what trials found is kept, so that none is done twice."""

from contextlib import AbstractContextManager
from typing import Protocol

from ugejax.training.trajectory import Snapshots


class Cache(Protocol):
    """Contents by name, which begins with the digest of all that a content follows from: `ugejax.FolderCache`."""

    def read(self, name: str) -> bytes | None:
        """The content of that name; None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Keep a content, whole or not at all."""
        ...

    def under_way(self, digest: str) -> AbstractContextManager[Snapshots | None]:
        """Snapshots of the trial of that digest while a block trains it; None where none are kept.

        A block that is cut off leaves them to the next; those of a block that ends are deleted.
        """
        ...
