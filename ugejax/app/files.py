"""Files and folders that appear whole or not at all, and stay through a power cut; those of their owner alone."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ugejax.errors import UserError

_OTHERWISE = "choose another folder with `out`"


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Within it files and folders are made for their owner alone, from their first byte; in the whole process."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """Where to write a file or folder that gets its name when the block ends.

    It is `.<name>.partial` beside the target; what an earlier, killed run left there is replaced. If anything goes
    wrong it is removed, and so are the folders that were made for it.

    Args:
        target: must not exist, its parents need not.

    Raises:
        UserError: the target exists, cannot be written, or the disk is full.
    """
    partial = target.parent / f".{target.name}.partial"
    try:
        if os.path.lexists(target):
            raise UserError(f"{target}: `out` names an existing folder or file; choose a new one or remove it")
        with made_parents(target):
            try:
                _remove(partial)
                yield partial
                if partial.is_dir():
                    _sync(partial)
                os.rename(partial, target)
            except BaseException:
                _remove(partial)
                raise
    except OSError as error:
        raise _unwritable(target, error) from error


@contextlib.contextmanager
def made_parents(target: Path) -> Iterator[None]:
    """Within it the folders above a path are there; afterwards they are on the disk, with what was put there.

    If anything goes wrong, those that were made are removed.

    Raises:
        OSError: one cannot be made.
    """
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    for folder in (target.parent, *(parent.parent for parent in made)):
        _sync(folder)


def try_place(target: Path, option: str) -> None:
    """Refuse a file or folder that cannot be made, before the work that would be lost; nothing is left of the trial.

    Args:
        target: what shall be made; of what exists the one who writes there says what is wrong with it.
        option: what a message calls it.

    Raises:
        UserError: it cannot be made.
    """
    above = target.absolute().parent
    made = [parent for parent in (above, *above.parents) if not parent.exists()]
    try:
        if not os.path.lexists(target):
            above.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{option} {target}: cannot be written ({why}); choose another place") from error
    finally:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def sync_tree(folder: Path) -> None:
    """Have all files and folders of a folder on the disk, and itself.

    Raises:
        OSError: the system could not write them.
    """
    for parent, _, files in os.walk(folder, topdown=False):
        for path in (*(Path(parent, name) for name in files), Path(parent)):
            _sync(path)


@contextlib.contextmanager
def replaced(target: Path, *, shared: bool = False, otherwise: str = _OTHERWISE) -> Iterator[BinaryIO]:
    """A file, open for writing, that takes the place of the target when the block ends and is on the disk then.

    If anything goes wrong the target stays what it was, and nothing is left beside it.

    Args:
        target: may exist; its folder must.
        shared: whether another process may write the same at the same time, so that each needs a partial file of its
            own; what a killed one left of it is then nobody's to take away.
        otherwise: what the user can do where it cannot be written.

    Raises:
        UserError: the target cannot be written, or the disk is full.
    """
    partial = target.parent / f".{target.name}{f'.{os.getpid()}' if shared else ''}.partial"
    try:
        try:
            _remove(partial)
            with synced(partial) as file:
                yield file
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(partial)
            raise
        _sync(target.parent)
    except OSError as error:
        raise _unwritable(target, error, otherwise) from error


def replace_text(target: Path, text: str, *, otherwise: str = _OTHERWISE) -> None:
    """Give a file this content, see `replaced`."""
    with replaced(target, otherwise=otherwise) as file:
        file.write(text.encode())


@contextlib.contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, that is on the disk when the block ends."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(target: Path, error: OSError, otherwise: str = _OTHERWISE) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{target}: the disk is full; make room or {otherwise}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{target}: no permission to write there; {otherwise}")
    return UserError(f"{target}: cannot be written ({error.strerror or error}); {otherwise}")
