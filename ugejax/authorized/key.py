"""The key: what makes a network the authorized one, and the private folder that holds it."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.checkpoint import restore_tree, save_tree, sealed
from ugejax.errors import UserError
from ugejax.seal import Seal, lock, unlock
from ugejax.training.recipe import Recipe
from ugejax.whole import replaced

SCHEMA = 1
# Of a key with a passphrase, which cannot be read by what knows of none.
LOCKED_SCHEMA = 2


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

    @property
    def seal(self) -> Seal:
        """What encrypts the other files of the key's folder, where it has or had a passphrase."""
        return Seal(hashlib.sha256(b"ugejax seal" + self.secret).digest())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; write_key writes it to a private folder")

    def _public(self) -> str:
        described = {name: value for name, value in asdict(self).items() if name != "secret"}
        return json.dumps(described | {"recipe": self.recipe.described}, sort_keys=True)


def draw_master(seed: int | None) -> bytes:
    """A master seed from the operating system's entropy or, for experiments, from a seed that may be guessed."""
    return secrets.token_bytes(32) if seed is None else f"seed {seed}".encode()


def new_key(master: bytes, **architecture: Any) -> Key:
    """A key whose secret follows from a master seed; see `Key` for the architecture's arguments."""
    return Key(secret=hashlib.sha256(b"ugejax key" + master).digest()[:16], **architecture)


def write_key(path: Path, key: Key, arrays: Any, passphrase: str | None = None) -> None:
    """Write the key folder: mode 0700, files 0600, whole or not at all.

    Args:
        path: folder to make; must not exist, or be empty.
        key: what goes into key.json.
        arrays: pytree for the checkpoint: theta_0 and the arrays of the view.
        passphrase: encrypts all that is secret.

    Raises:
        UserError: the folder exists or cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):  # a rename replaces an empty folder
        raise UserError(f"--key {path}: already exists")
    temporary = path.with_name(f".{path.name}.partial")  # of one name, so that what a kill leaves there is replaced
    old_mask = os.umask(0o077)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True, mode=0o700)
        (temporary / "key.json").write_text(_described(key, passphrase))
        save_tree(temporary / "network", arrays, None if passphrase is None else key.seal / "network")
        temporary.rename(path)
    except OSError as error:
        raise UserError(f"--key {path}: cannot be written ({error.strerror or error})") from error
    finally:
        os.umask(old_mask)
        shutil.rmtree(temporary, ignore_errors=True)


def set_passphrase(path: Path, key: Key, passphrase: str | None) -> None:
    """Give a key folder another passphrase, or None: key.json is replaced, whole or not at all.

    The other files have to be encrypted before, see `ugejax.checkpoint.seal_tree`, and stay so.

    Raises:
        UserError: it cannot be written.
    """
    with replaced(path / "key.json", otherwise="move the key to another place") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(_described(key, passphrase).encode())


def read_key(path: Path, passphrase: Callable[[], str] | None = None) -> Key:
    """Read key.json and check that it is whole.

    Args:
        path: key folder.
        passphrase: gives it, and is called only where the key has one.

    Raises:
        UserError: not a key folder, its parts contradict each other, or the passphrase is missing or wrong.
    """
    file, content = path / "key.json", _content(path)
    try:
        recipe = Recipe(**content["recipe"] | {"augment": tuple(content["recipe"]["augment"])})
        key = Key(
            form=content["form"],
            network=content["network"],
            image_shape=tuple(content["image_shape"]),
            num_classes=content["num_classes"],
            step=content["step"],
            recipe=recipe,
            from_seed=content["from_seed"],
            secret=b"",
        )
        if "locked_secret" not in content:
            secret = bytes.fromhex(content["secret"])
        elif passphrase is None:
            raise UserError(f"--key {path}: has a passphrase, without which it cannot be read")
        else:
            secret = unlock(content["locked_secret"], passphrase(), content["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--key {file}: cannot be read as a key ({error!r})") from error
    if secret is None:
        raise UserError(f"--key {path}: the passphrase is wrong, or key.json was changed")
    key = replace(key, secret=secret)
    if key.fingerprint != content.get("fingerprint"):
        raise UserError(f"--key {file}: its fingerprint does not match its content; it was changed or damaged")
    return key


def has_passphrase(path: Path) -> bool:
    """Whether the key of a folder is encrypted.

    Raises:
        UserError: not a key folder.
    """
    return "locked_secret" in _content(path)


def folder_seal(path: Path, key: Key) -> Seal | None:
    """What encrypts that which is added to a key folder: None where the rest is not encrypted."""
    return key.seal if sealed(path / "network").exists() else None


def read_arrays(path: Path, key: Key, like: Any) -> Any:
    """The arrays of a key folder's checkpoint, checked against the shapes and dtypes of `like`."""
    arrays = restore_tree(path / "network", like, key.seal / "network")
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(arrays)):
        raise UserError(f"--key {path}: its network holds non-finite values; it is damaged")
    return arrays


def _content(path: Path) -> dict[str, Any]:
    """What key.json says, undecrypted."""
    file = path / "key.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(f"--key {path}: holds no key.json; give the folder that `ugejax protect --key` made") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--key {file}: cannot be read as a key ({error!r})") from error
    if not isinstance(content, dict):
        raise UserError(f"--key {file}: cannot be read as a key (no object)")
    return content


def _described(key: Key, passphrase: str | None) -> str:
    """The text of key.json; with a passphrase all of it but the secret may be read."""
    content = asdict(key) | {"recipe": key.recipe.described, "secret": key.secret.hex()}
    content |= {"fingerprint": key.fingerprint, "schema": SCHEMA}
    if passphrase is not None:
        del content["secret"]
        # The fingerprint is that of all the rest, so none of it can be another's.
        content |= {"locked_secret": lock(key.secret, passphrase, key.fingerprint), "schema": LOCKED_SCHEMA}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
