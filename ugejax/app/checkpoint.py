"""Checkpoints by Orbax: single trees of arrays, and numbered steps of which the last complete one is restored.

All is for its owner alone, from the first byte: mode 0700 of folders, 0600 of files.

Orbax finds a checkpoint whole whose values changed on the disk, so a checksum of them lies beside each.

Orbax cannot encrypt. What is to be encrypted is a file in place of Orbax's folder: an archive of NumPy's with the
arrays by their names.
"""

import errno
import functools
import hashlib
import io
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.app.files import private, replace_text
from ugejax.app.hosts import exchange, from_leader, leads
from ugejax.app.seal import Seal
from ugejax.errors import UserError

if TYPE_CHECKING:  # imported late: half a second that most commands' mistakes need not wait for
    import orbax.checkpoint as ocp

# Orbax reports every step there, and with every error the whole way that it took through Orbax.
logging.getLogger("absl").setLevel(logging.CRITICAL)
_CHECKSUM = "sha256"
# Seconds between the checkpoints of `SpacedCheckpoints`: a kill costs so much and an epoch, and what is written little.
SPACING = 20.0


def save_tree(path: Path, tree: Any, seal: Seal | None = None) -> None:
    """Write one pytree of arrays to a new folder or, where a seal requires it, encrypted to a file.

    The file has the folder's name and `.sealed`.

    Raises:
        OSError, UserError: it cannot be written.
    """
    if seal is not None and seal.required:
        seal.write(sealed(path), io.BytesIO(packed_tree(tree)))
        return
    import orbax.checkpoint as ocp

    with private(), ocp.StandardCheckpointer(multiprocessing_options=_own()) as checkpointer:
        try:
            checkpointer.save(path.absolute(), _on_host(tree))
            checkpointer.wait_until_finished()
        except ValueError as error:
            raise _os_error(error, path) from error
        replace_text(path / _CHECKSUM, _checksum(tree) + "\n")


def restore_tree(path: Path, like: Any, seal: Seal | None = None) -> Any:
    """Read a pytree; shapes and dtypes must be those of `like`, which Orbax by itself would cast or accept silently.

    With a seal it may be encrypted, and has to be where that requires it.

    Raises:
        UserError: the checkpoint is missing, damaged, of another shape or not encrypted.
    """
    if seal is not None:
        seal.check_plain(path)
        if sealed(path).exists():
            return unpacked_tree(seal.read(sealed(path)), like, sealed(path))
    if not path.is_dir():
        raise UserError(f"{path}: the checkpoint is missing")
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer(multiprocessing_options=_own()) as checkpointer:
        try:
            tree = checkpointer.restore(path.absolute(), jax.tree.map(_abstract, like))
        except Exception as error:  # Orbax raises plain ones too
            raise UserError(
                f"{path}: the checkpoint is damaged or of another network ({type(error).__name__})"
            ) from error
    return _checked(tree, like, path, _checksum_beside(path))


def seal_tree(path: Path, seal: Seal) -> None:
    """Put an encrypted file in the place of a folder of `save_tree`; one of them is whole at any moment.

    Nothing happens where there is no such folder.

    Raises:
        UserError: the checkpoint is damaged, or the file cannot be written.
    """
    if not path.is_dir():
        return
    import orbax.checkpoint as ocp

    if not sealed(path).exists():
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                tree = checkpointer.restore(next(path.glob("default"), path).absolute())  # where a manager saves
            except Exception as error:  # Orbax raises plain ones too
                raise UserError(f"{path}: the checkpoint is damaged ({type(error).__name__}); remove it") from error
        seal.write(sealed(path), io.BytesIO(packed_tree(tree, _checksum_beside(path))))
    shutil.rmtree(path)


def packed_tree(tree: Any, checksum: str | None = None) -> bytes:
    """An archive of NumPy's with the arrays of a tree by their names, not compressed.

    Args:
        tree: of arrays.
        checksum: that lay beside them; none where something else tells of damage.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays: dict[str, Any] = {_name(path): np.asarray(leaf) for path, leaf in leaves}
    if checksum is not None:
        arrays[_CHECKSUM] = np.array(checksum)
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def unpacked_tree(content: bytes, like: Any, path: Path) -> Any:
    """The tree of arrays like these that `packed_tree` made an archive of, which came from a path.

    Raises:
        UserError: it is damaged or of another shape.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            leaves, structure = jax.tree_util.tree_flatten_with_path(like)
            names = [_name(path) for path, _ in leaves]
            if set(archive) - {_CHECKSUM} != set(names):
                raise UserError(f"{path}: the checkpoint is of another network")
            tree = jax.tree.unflatten(structure, [jnp.asarray(archive[name]) for name in names])
            checksum = str(archive[_CHECKSUM]) if _CHECKSUM in archive else None
    except UserError:
        raise
    except Exception as error:  # of a damaged archive nearly anything
        raise UserError(f"{path}: the checkpoint is damaged ({type(error).__name__})") from error
    return _checked(tree, like, path, checksum)


def sealed(path: Path) -> Path:
    """The encrypted file in the place of a path."""
    return path.with_name(f"{path.name}.sealed")


class StepCheckpoints:
    """The numbered checkpoints of a run in one folder; a save that was killed half way does not count.

    Of several processes, which all hold the same values, the one that leads writes them, and all read them. They must
    make the same calls.
    """

    def __init__(self, path: Path, *, keep: int | None = 1, seal: Seal | None = None):
        """Open or make the folder.

        Args:
            path: folder.
            keep: how many of the last steps to keep; None keeps all.
            seal: of the steps, which have to be encrypted where it requires that, and otherwise may be.

        Raises:
            OSError: the folder cannot be made or read.
            UserError: what is written about a step is damaged.
        """
        import orbax.checkpoint as ocp

        self.path = path
        if leads():
            with private():
                path.mkdir(parents=True, exist_ok=True)
        exchange()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=False, cleanup_tmp_directories=leads(), read_only=not leads(),
            enable_async_checkpointing=False, multiprocessing_options=_own(),
        )  # fmt: skip
        try:
            self._manager = ocp.CheckpointManager(path.absolute(), options=options)
        except OSError:
            raise
        except Exception as error:  # Orbax raises plain ones too
            raise UserError(
                f"{path}: what is written about its checkpoints is damaged ({type(error).__name__}); remove the newest "
                "one, and the same command goes on from what is left"
            ) from error
        self._keep, self._seal = keep, seal

    def steps(self) -> list[int]:
        """The steps that are there, ascending.

        Raises:
            UserError: one is not encrypted and has to be.
        """
        return from_leader(self._found)

    def save(self, step: int, tree: Any) -> None:
        """Write a step; one that exists is left alone, being the same.

        Raises:
            OSError: it cannot be written; the steps before it are still there.
        """
        if leads() and step not in self._found():
            if self._seal is not None and self._seal.required:
                save_tree(self.path / str(step), tree, self._seal / str(step))
            else:
                self._save(step, tree)
            for old in self._found()[: -self._keep] if self._keep else ():
                self._remove(old)
        exchange()

    def restore(self, step: int, like: Any) -> Any:
        """Read a step into the structure of `like`.

        Raises:
            UserError: it is damaged.
        """
        import orbax.checkpoint as ocp

        path = self.path / str(step)
        if self._seal is not None and sealed(path).exists():
            return unpacked_tree((self._seal / str(step)).read(sealed(path)), like, sealed(path))
        if not leads():
            self._manager.reload()  # it remembers what was there when it was made
        try:
            tree = self._manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(_abstract, like)))
        except Exception as error:  # Orbax raises plain ones too
            raise UserError(
                f"{path}: the checkpoint is damaged ({type(error).__name__}); remove it, and the same command goes on "
                "from what is left"
            ) from error
        return _checked(tree, like, path, _checksum_beside(path))

    def _found(self) -> list[int]:
        plain, encrypted = self._manager.all_steps(), self.path.glob("*.sealed") if self._seal else ()
        if self._seal is not None:
            for step in plain:
                self._seal.check_plain(self.path / str(step))
        return sorted({*plain, *(int(file.stem) for file in encrypted if file.stem.isdecimal())})

    def _save(self, step: int, tree: Any) -> None:
        import orbax.checkpoint as ocp

        with private():
            try:
                self._manager.save(step, args=ocp.args.StandardSave(_on_host(tree)))
                self._manager.wait_until_finished()
            except ValueError as error:
                raise _os_error(error, self.path) from error
            replace_text(self.path / str(step) / _CHECKSUM, _checksum(tree) + "\n")

    def _remove(self, step: int) -> None:
        if step in self._manager.all_steps():
            self._manager.delete(step)
        sealed(self.path / str(step)).unlink(missing_ok=True)


class SpacedCheckpoints:
    """The last of the checkpoints of a training, at least `SPACING` seconds apart.

    A training of seconds leaves none, and no folder; one whose epochs take longer leaves one after each.
    """

    def __init__(self, path: Path, *, seal: Seal | None = None):
        """Nothing is made yet, and the time runs.

        Args:
            path: folder.
            seal: as for `StepCheckpoints`.
        """
        self._path, self._seal, self._saved = path, seal, time.monotonic()

    def steps(self) -> list[int]:
        """The steps that are there, ascending; see `StepCheckpoints.steps`."""
        return self._opened.steps() if self._path.exists() else []

    def save(self, step: int, tree: Any) -> None:
        """Write a step if the time has come; see `StepCheckpoints.save`."""
        if time.monotonic() - self._saved >= SPACING:
            self._opened.save(step, tree)
            self._saved = time.monotonic()

    def restore(self, step: int, like: Any) -> Any:
        """Read a step into the structure of `like`; see `StepCheckpoints.restore`."""
        return self._opened.restore(step, like)

    @functools.cached_property
    def _opened(self) -> StepCheckpoints:
        return StepCheckpoints(self._path, seal=self._seal)


def _on_host(tree: Any) -> Any:
    """A tree as Orbax saves it from one process of several: a `jax.Array` it would have from all of them."""
    return jax.tree.map(np.asarray, tree)


def _own() -> "ocp.options.MultiprocessingOptions":
    """Orbax at work in this process alone; otherwise it would wait for all others at each step."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process {own}"
    )


def _checked(tree: Any, like: Any, path: Path, checksum: str | None) -> Any:
    """A tree that was read, refused if it is not what was written; a checkpoint without a checksum is believed."""
    if jax.tree.map(_signature, tree) != jax.tree.map(_signature, like):
        raise UserError(f"{path}: the checkpoint is of another network")
    if checksum is not None and checksum != _checksum(tree):
        raise UserError(f"{path}: the checkpoint is damaged, its values are not those that were written; remove it")
    return jax.tree.map(_unbound, tree)


def _unbound(leaf: Any) -> Any:
    """An array that Orbax bound to the one device there is, free to go anywhere, as fresh arrays are.

    A step that was compiled for free arrays is compiled a second time for bound ones, and what comes of bound ones is
    bound.
    """
    if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
        return leaf
    return jnp.asarray(np.asarray(leaf))


def _name(path: tuple) -> str:
    """Of a leaf by the keys, places and attributes that lead to it: what Orbax, too, calls it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _checksum_beside(path: Path) -> str | None:
    file = path / _CHECKSUM
    try:
        return file.read_text(encoding="ascii").strip() if file.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: the checkpoint is damaged ({type(error).__name__})") from error


def _checksum(tree: Any) -> str:
    """SHA-256 of the values of a tree of arrays."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        values = np.asarray(leaf)
        content.update(f"{values.shape} {values.dtype}".encode())
        content.update(np.ascontiguousarray(values).tobytes())
    return content.hexdigest()


def _os_error(error: ValueError, path: Path) -> OSError:
    """What the system said to Orbax, which passes it on as text."""
    found = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # Where `like` lies: the devices that wrote a checkpoint need not be there any more.
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _signature(leaf: Any) -> tuple:
    return leaf.shape, leaf.dtype
