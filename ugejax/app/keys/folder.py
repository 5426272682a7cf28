"""A key's private folder: key.json, and a checkpoint with the network that the key begins with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ugejax.app.checkpoint import restore_tree, save_tree
from ugejax.app.files import made_parents, private, replaced, sync_tree
from ugejax.app.lock import alone_in
from ugejax.app.seal import Seal, lock, unlock
from ugejax.authorized.key import VERSION, Key
from ugejax.authorized.network import AuthorizedNetwork, draw_authorized
from ugejax.errors import UserError
from ugejax.training.recipe import Recipe

# Of key.json by the key's version, without and with a passphrase: each is for what can read it.
SCHEMAS = {1: (1, 2), VERSION: (3, 4)}


def seal_of(key: Key) -> Seal:
    """What encrypts the other files of the key's folder, and has to where the key has a passphrase."""
    return Seal(key.seal_secret, required=key.locked)


def build_authorized(key: Key, folder: Path | None = None) -> AuthorizedNetwork:
    """The authorized network of a key, for no release yet: see `AuthorizedNetwork.of_release`.

    Args:
        key: the key.
        folder: the key folder, whose checkpoint then gives theta_0 and the view's arrays exactly as they were made;
            without it they are drawn afresh, which may differ in the last bit between machines.

    Raises:
        UserError: the form is unknown, the images do not suit it, or the checkpoint does not fit.
    """
    network = draw_authorized(key)
    return network if folder is None else network.with_arrays(read_arrays(folder, key, network.arrays))


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
    seal = None if passphrase is None else seal_of(replace(key, locked=True)) / "network"
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
    arrays = restore_tree(path / "network", like, seal_of(key) / "network")
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
