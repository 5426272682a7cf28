"""Orbax, in one place: single trees, and runs of numbered steps of which the last whole one is restored."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ugejax.errors import UserError

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every step there


def save_tree(path: Path, tree: Any) -> None:
    """Write one pytree of arrays to a new folder."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree)


def restore_tree(path: Path, like: Any) -> Any:
    """Read a pytree; shapes and dtypes must be those of `like`, which Orbax by itself would cast or accept silently.

    Raises:
        UserError: the checkpoint is missing, damaged or of another shape.
    """
    if not path.is_dir():
        raise UserError(f"{path}: the checkpoint is missing")
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            tree = checkpointer.restore(path.absolute(), jax.tree.map(_abstract, like))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{path}: the checkpoint is damaged or of another network ({type(error).__name__})"
            ) from error
    if jax.tree.map(_signature, tree) != jax.tree.map(_signature, like):
        raise UserError(f"{path}: the checkpoint is of another network")
    return tree


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
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)

    def steps(self) -> list[int]:
        """The steps that are there, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any) -> None:
        """Write a step; one that exists is left alone, being the same."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(tree))
            self._manager.wait_until_finished()

    def restore(self, step: int, like: Any) -> Any:
        """Read a step into the structure of `like`."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(_abstract, like)))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # Where `like` lies: the devices that wrote a checkpoint need not be there any more.
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _signature(leaf: Any) -> tuple:
    return leaf.shape, leaf.dtype
