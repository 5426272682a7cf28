"""The key: what makes a network the authorized one, and the private folder that holds it."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.app.checkpoint import restore_tree, save_tree
from ugejax.app.files import made_parents, private, replaced, sync_tree
from ugejax.app.lock import alone_in
from ugejax.app.seal import Seal, lock, unlock
from ugejax.errors import UserError
from ugejax.training.recipe import Recipe
from ugejax.views.derive import derive

# How everything secret follows from a key's secret. Version 1, of ugejax 0.1, makes no releases any more.
VERSION = 2
# Of key.json by the key's version, without and with a passphrase: each is for what can read it.
SCHEMAS = {1: (1, 2), VERSION: (3, 4)}
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
    def seal(self) -> Seal:
        """What encrypts the other files of the key's folder, and has to where the key has a passphrase."""
        return Seal(hashlib.sha256(b"ugejax seal" + self.secret).digest(), required=self.locked)

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


def write_key(path: Path, key: Key, arrays: Any, passphrase: str | None = None) -> None:
    """Write the key folder: mode 0700, files 0600, whole or not at all; when it returns, the key is on the disk.

    Args:
        path: folder to make; must not exist, or be empty.
        key: what goes into key.json.
        arrays: pytree for the checkpoint: theta_0 and the arrays of the view.
        passphrase: encrypts all that is secret.

    Raises:
        UserError: the folder exists or cannot be written, or another process makes the same key.
    """
    seal = None if passphrase is None else replace(key, locked=True).seal / "network"
    temporary = path.with_name(f".{path.name}.partial")  # of one name, so that what a kill leaves there is replaced
    try:
        with made_parents(path), private():
            temporary.mkdir(exist_ok=True)
            with alone_in(temporary):
                try:
                    if path.exists() and not (path.is_dir() and not any(path.iterdir())):  # which a rename replaces
                        raise _refused(path, "already exists")
                    for left in temporary.iterdir():
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                    (temporary / "key.json").write_text(describe_key(key, passphrase))
                    save_tree(temporary / "network", arrays, seal)
                    sync_tree(temporary)
                    temporary.rename(path)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _refused(path, f"cannot be written ({error.strerror or error})") from error


def set_passphrase(path: Path, key: Key, passphrase: str | None) -> None:
    """Give a key folder another passphrase, or None: key.json is replaced, whole or not at all.

    The other files have to be encrypted before, see `ugejax.app.checkpoint.seal_tree`, and stay so.

    Raises:
        UserError: it cannot be written.
    """
    with private(), replaced(path / "key.json", otherwise="move the key to another place") as file:
        file.write(describe_key(key, passphrase).encode())


def read_key(path: Path, passphrase: Callable[[], str] | None = None) -> Key:
    """Read key.json and check that it is whole.

    Args:
        path: key folder.
        passphrase: gives it, and is called only where the key has one.

    Raises:
        UserError: not a key folder, its parts contradict each other, or the passphrase is missing or wrong.
    """
    return key_of(_content(path), path, passphrase)


def key_of(content: dict[str, Any], path: Path, passphrase: Callable[[], str] | None = None) -> Key:
    """The key that the content of a key.json describes; see `read_key`."""
    file = path / "key.json"
    key = _without_secret(file, content)
    try:
        if "locked_secret" not in content:
            secret = bytes.fromhex(content["secret"])
        elif passphrase is None:
            raise _refused(path, "has a passphrase, without which it cannot be read")
        else:
            secret = unlock(content["locked_secret"], passphrase(), content["fingerprint"])
    except UserError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(file, error) from error
    if secret is None:
        raise _refused(path, "the passphrase is wrong, or key.json was changed")
    key = replace(key, secret=secret, locked="locked_secret" in content)
    if key.fingerprint != content.get("fingerprint"):
        raise _refused(file, "its fingerprint does not match its content; it was changed or damaged")
    return key


def public_part(path: Path) -> dict[str, Any]:
    """All of a key folder's key but its secret, as JSON has it, with its fingerprint and whether it has a passphrase.

    Without the passphrase nothing tells whether what can be read of a locked key was changed.

    Raises:
        UserError: not a key folder, or its parts contradict each other.
    """
    content, locked = _content(path), has_passphrase(path)
    key = _without_secret(path / "key.json", content) if locked else read_key(path)
    described = {name: value for name, value in asdict(key).items() if name != "secret"}
    return described | {"fingerprint": str(content.get("fingerprint")), "locked": locked}


def _without_secret(file: Path, content: dict[str, Any]) -> Key:
    try:
        schema = content["schema"]
        version = next((version for version, schemas in SCHEMAS.items() if schema in schemas), None)
        if version is None:
            raise _refused(file, f"is of schema {schema!r}, which this ugejax does not know; use a later one")
        recipe = Recipe(**content["recipe"] | {"augment": tuple(content["recipe"]["augment"])})
        return Key(
            form=content["form"],
            network=content["network"],
            image_shape=tuple(content["image_shape"]),
            num_classes=content["num_classes"],
            step=content["step"],
            recipe=recipe,
            from_seed=content["from_seed"],
            secret=b"",
            version=version,
        )
    except (KeyError, TypeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    return _refused(file, f"cannot be read as a key ({error!r})")


def _refused(place: Path, why: str) -> UserError:
    return UserError(why, argument="key", value=place)


def has_passphrase(path: Path) -> bool:
    """Whether the key of a folder is encrypted.

    Raises:
        UserError: not a key folder.
    """
    return "locked_secret" in _content(path)


def read_arrays(path: Path, key: Key, like: Any) -> Any:
    """The arrays of a key folder's checkpoint, checked against the shapes and dtypes of `like`.

    Raises:
        UserError: they are damaged, missing, or not encrypted though the key has a passphrase.
    """
    arrays = restore_tree(path / "network", like, key.seal / "network")
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(arrays)):
        raise _refused(path, "its network holds non-finite values; it is damaged")
    return arrays


def _content(path: Path) -> dict[str, Any]:
    """What key.json says, undecrypted."""
    file = path / "key.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise _refused(path, "holds no key.json; give the folder that `ugejax protect` made") from error
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    if not isinstance(content, dict):
        raise _refused(file, "cannot be read as a key (no object)")
    return content


def describe_key(key: Key, passphrase: str | None) -> str:
    """The text of key.json; with a passphrase all of it but the secret may be read."""
    plain, locked = SCHEMAS[key.version]
    content = asdict(key) | {"recipe": key.recipe.described, "secret": key.secret.hex()}
    content |= {"fingerprint": key.fingerprint, "schema": plain}
    del content["version"], content["locked"]  # which the schema tells
    if passphrase is not None:
        del content["secret"]
        # The fingerprint is that of all the rest, so none of it can be another's.
        content |= {"locked_secret": lock(key.secret, passphrase, key.fingerprint), "schema": locked}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
