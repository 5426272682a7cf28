"""Orbax, in one place: single trees, and runs of numbered steps of which the last whole one is restored.

Orbax finds a checkpoint whole whose values changed on the disk, so a checksum of them lies beside each.
"""

import errno
import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ugejax.errors import UserError
from ugejax.whole import replace_text

# Orbax reports every step there, and with every error the whole way that it took through Orbax.
logging.getLogger("absl").setLevel(logging.CRITICAL)
_CHECKSUM = "sha256"


def save_tree(path: Path, tree: Any) -> None:
    """Write one pytree of arrays to a new folder.

    Raises:
        OSError: it cannot be written.
    """
    with ocp.StandardCheckpointer(multiprocessing_options=_own()) as checkpointer:
        try:
            checkpointer.save(path.absolute(), _on_host(tree))
            checkpointer.wait_until_finished()
        except ValueError as error:
            raise _os_error(error, path) from error
    replace_text(path / _CHECKSUM, _checksum(tree) + "\n")


def restore_tree(path: Path, like: Any) -> Any:
    """Read a pytree; shapes and dtypes must be those of `like`, which Orbax by itself would cast or accept silently.

    Raises:
        UserError: the checkpoint is missing, damaged or of another shape.
    """
    if not path.is_dir():
        raise UserError(f"{path}: the checkpoint is missing")
    with ocp.StandardCheckpointer(multiprocessing_options=_own()) as checkpointer:
        try:
            tree = checkpointer.restore(path.absolute(), jax.tree.map(_abstract, like))
        except Exception as error:  # Orbax raises plain ones too
            raise UserError(
                f"{path}: the checkpoint is damaged or of another network ({type(error).__name__})"
            ) from error
    return _checked(tree, like, path)


class StepCheckpoints:
    """The numbered checkpoints of a run in one folder; a save that was killed half way does not count."""

    def __init__(self, path: Path, *, keep: int | None = 1):
        """Open or make the folder.

        Args:
            path: folder.
            keep: how many of the last steps to keep; None keeps all.
        """
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self.path = path
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)

    def steps(self) -> list[int]:
        """The steps that are there, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any) -> None:
        """Write a step; one that exists is left alone, being the same.

        Raises:
            OSError: it cannot be written; the steps before it are still there.
        """
        if step in self._manager.all_steps():
            return
        try:
            self._manager.save(step, args=ocp.args.StandardSave(tree))
            self._manager.wait_until_finished()
        except ValueError as error:
            raise _os_error(error, self.path) from error
        replace_text(self.path / str(step) / _CHECKSUM, _checksum(tree) + "\n")

    def restore(self, step: int, like: Any) -> Any:
        """Read a step into the structure of `like`.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / str(step)
        try:
            tree = self._manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(_abstract, like)))
        except Exception as error:  # Orbax raises plain ones too
            raise UserError(
                f"{path}: the checkpoint is damaged ({type(error).__name__}); remove it, and the same command goes on "
                "from what is left"
            ) from error
        return _checked(tree, like, path)


def _on_host(tree: Any) -> Any:
    """A tree as Orbax saves it from one process of several: a `jax.Array` it would have from all of them."""
    return jax.tree.map(np.asarray, tree)


def _own() -> ocp.options.MultiprocessingOptions:
    """Orbax at work in this process alone; otherwise it would wait for all others at each step."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process {own}"
    )


def _checked(tree: Any, like: Any, path: Path) -> Any:
    """A tree that was read, refused if it is not what was written; a checkpoint without a checksum is believed."""
    if jax.tree.map(_signature, tree) != jax.tree.map(_signature, like):
        raise UserError(f"{path}: the checkpoint is of another network")
    file = path / _CHECKSUM
    if file.exists() and file.read_bytes().strip() != _checksum(tree).encode():
        raise UserError(f"{path}: the checkpoint is damaged, its values are not those that were written; remove it")
    return tree


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
