"""Where what trials found is kept, so that none is done twice."""

from typing import Protocol


class Cache(Protocol):
    """Contents by name, which begins with the digest of all that a content follows from: `ugejax.FolderCache`."""

    def read(self, name: str) -> bytes | None:
        """The content of that name; None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Keep a content, whole or not at all."""
        ...
