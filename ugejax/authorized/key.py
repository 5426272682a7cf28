"""The key: what makes a network the authorized one, and the private folder that holds it."""

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.checkpoint import restore_tree, save_tree
from ugejax.errors import UserError
from ugejax.training.recipe import Recipe

SCHEMA = 1


@dataclass(frozen=True)
class Key:
    """An authorized network: its architecture, its secret, and how it is trained.

    Attributes:
        form: name in `ugejax.authorized.FORMS`.
        network: short name of the backbone.
        image_shape: (H, W, C).
        num_classes: number of classes.
        step: step of the dithered quantiser in grey levels; None for the other forms.
        recipe: how the network is trained.
        from_seed: whether the secret follows from a seed that somebody chose, and so may be guessed: for experiments
            only.
        secret: 16 bytes from which everything secret follows; never printed.
    """

    form: str
    network: str
    image_shape: tuple[int, int, int]
    num_classes: int
    step: int | None
    recipe: Recipe
    from_seed: bool
    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name the key and tell nothing about its secret."""
        return hashlib.sha256(b"ugejax fingerprint" + self.secret + self._public().encode()).hexdigest()[:32]

    @property
    def public_seed(self) -> int:
        """31 bits for everything that is public (subsets, order, rounding); they tell nothing of the secret."""
        return int.from_bytes(hashlib.sha256(b"ugejax public" + self.secret).digest()[:4], "big") >> 1

    def prng(self, purpose: str) -> jax.Array:
        """A PRNG key for one purpose ("view", "init", "training"), each independent of the others."""
        digest = hashlib.sha256(b"ugejax " + purpose.encode() + self.secret).digest()
        key = jax.random.key(0)
        for word in np.frombuffer(digest, "<u4"):
            key = jax.random.fold_in(key, word)
        return key

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; write_key writes it to a private folder")

    def _public(self) -> str:
        described = {name: value for name, value in asdict(self).items() if name != "secret"}
        return json.dumps(described, sort_keys=True)


def draw_master(seed: int | None) -> bytes:
    """A master seed from the operating system's entropy or, for experiments, from a seed that may be guessed."""
    return secrets.token_bytes(32) if seed is None else f"seed {seed}".encode()


def new_key(master: bytes, **architecture: Any) -> Key:
    """A key whose secret follows from a master seed; see `Key` for the architecture's arguments."""
    return Key(secret=hashlib.sha256(b"ugejax key" + master).digest()[:16], **architecture)


def write_key(path: Path, key: Key, arrays: Any) -> None:
    """Write the key folder: mode 0700, files 0600, whole or not at all.

    Args:
        path: folder to make; must not exist, or be empty.
        key: what goes into key.json.
        arrays: pytree for the Orbax checkpoint: theta_0 and the arrays of the view.

    Raises:
        UserError: the folder exists or cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):  # a rename replaces an empty folder
        raise UserError(f"--key {path}: already exists")
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    old_mask = os.umask(0o077)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True, mode=0o700)
        content = asdict(key) | {"secret": key.secret.hex(), "fingerprint": key.fingerprint, "schema": SCHEMA}
        (temporary / "key.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        save_tree(temporary / "network", arrays)
        temporary.rename(path)
    except OSError as error:
        raise UserError(f"--key {path}: cannot be written ({error.strerror or error})") from error
    finally:
        os.umask(old_mask)
        shutil.rmtree(temporary, ignore_errors=True)


def read_key(path: Path) -> Key:
    """Read key.json and check that it is whole.

    Raises:
        UserError: not a key folder, or its parts contradict each other.
    """
    file = path / "key.json"
    try:
        content = json.loads(file.read_text())
        recipe = Recipe(**content["recipe"] | {"augment": tuple(content["recipe"]["augment"])})
        key = Key(
            form=content["form"],
            network=content["network"],
            image_shape=tuple(content["image_shape"]),
            num_classes=content["num_classes"],
            step=content["step"],
            recipe=recipe,
            from_seed=content["from_seed"],
            secret=bytes.fromhex(content["secret"]),
        )
    except FileNotFoundError as error:
        raise UserError(f"--key {path}: holds no key.json; give the folder that `ugejax protect --key` made") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--key {file}: cannot be read as a key ({error!r})") from error
    if key.fingerprint != content.get("fingerprint"):
        raise UserError(f"--key {file}: its fingerprint does not match its content; it was changed or damaged")
    return key


def read_arrays(path: Path, like: Any) -> Any:
    """The arrays of a key folder's checkpoint, checked against the shapes and dtypes of `like`."""
    arrays = restore_tree(path / "network", like)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(arrays)):
        raise UserError(f"--key {path}: its network holds non-finite values; it is damaged")
    return arrays
