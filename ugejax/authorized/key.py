"""The key: what makes a network the authorized one."""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import jax
import numpy as np

from ugejax.training.recipe import Recipe
from ugejax.views.derive import derive

# How everything secret follows from a key's secret. Version 1, of ugejax 0.1, makes no releases any more.
VERSION = 2
# For which `Key.prng` draws; the last two in version 1 alone.
PURPOSES = ("init", "training", "rounding", "view", "textures")


@dataclass(frozen=True)
class Key:
    """An authorized network: its architecture, its secret, and how it is trained.

    Attributes:
        form: name in `ugejax.views.FORMS`.
        network: short name of the backbone.
        image_shape: (H, W, C).
        num_classes: number of classes.
        step: step of the quantiser in grey levels; None for a form that has none.
        recipe: how the network is trained.
        from_seed: whether the secret follows from a seed that somebody chose, and so may be guessed: for experiments
            only.
        secret: 16 bytes from which everything secret follows; never printed.
        locked: whether its folder's key.json has the secret encrypted by a passphrase, so that all the rest of the
            folder has to be encrypted as well.
        version: how everything secret follows from the secret, see `VERSION`.
    """

    form: str
    network: str
    image_shape: tuple[int, int, int]
    num_classes: int
    step: int | None
    recipe: Recipe
    from_seed: bool
    secret: bytes = field(repr=False)
    locked: bool = field(default=False, compare=False)
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name the key and tell nothing about its secret."""
        return hashlib.sha256(b"ugejax fingerprint" + self.secret + self._public().encode()).hexdigest()[:32]

    @property
    def public_seed(self) -> int:
        """31 bits for everything that is public (subsets, order, rounding); they tell nothing of the secret."""
        return int.from_bytes(hashlib.sha256(b"ugejax public" + self.secret).digest()[:4], "big") >> 1

    def derive(self, label: str, size: int) -> bytes:
        """Secret bytes for one purpose ("view", "textures"), with all of the secret's 128 bits; see `derive.derive`."""
        return derive(self.secret, label, size)

    def release_salt(self, description: str) -> bytes:
        """The public salt, 16 bytes, of the one release of that description that this key is the first of."""
        return self.derive(f"release salt of {description}", 16)

    def prng(self, purpose: str) -> jax.Array:
        """A JAX key for one of the `PURPOSES`, each independent of the others; it has 64 bits."""
        digest = hashlib.sha256(b"ugejax " + purpose.encode() + self.secret).digest()
        key = jax.random.key(0)
        for word in np.frombuffer(digest, "<u4"):
            key = jax.random.fold_in(key, word)
        return key

    @property
    def seal_secret(self) -> bytes:
        """32 secret bytes by which the other files of the key's folder are encrypted where it has a passphrase."""
        return hashlib.sha256(b"ugejax seal" + self.secret).digest()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; write_key writes it to a private folder")

    def _public(self) -> str:
        described = {name: value for name, value in asdict(self).items() if name not in ("secret", "locked")}
        if self.version == 1:
            del described["version"]  # which knew of none
        return json.dumps(described | {"recipe": self.recipe.described}, sort_keys=True)


def draw_master(seed: int | None) -> bytes:
    """A master seed from the operating system's entropy or, for experiments, from a seed that may be guessed."""
    return secrets.token_bytes(32) if seed is None else f"seed {seed}".encode()


def new_key(master: bytes, **architecture: Any) -> Key:
    """A key whose secret follows from a master seed; see `Key` for the architecture's arguments."""
    return Key(secret=hashlib.sha256(b"ugejax key" + master).digest()[:16], **architecture)
