"""Progress as scalars for TensorBoard, which takes no TensorFlow to write."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ugejax.app.cli.progress import follow, stop_following
from ugejax.errors import UserError


@contextlib.contextmanager
def scalars_in(folder: Path) -> Iterator[None]:
    """Write the figures of each report as scalars to a folder, which is taken away if it was made and stays empty.

    Raises:
        UserError: tensorboardX is not installed, or the folder cannot be written.
    """
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        handler = _Scalars(folder)
        follow(handler)
        try:
            yield
        finally:
            stop_following(handler)
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


class _Scalars(logging.Handler):
    """Each stage as a run of its own, so that a chart shows the accuracies of all who train."""

    def __init__(self, folder: Path):
        super().__init__()
        try:
            # The writer without a thread of its own: it fails when it writes, and not silently afterwards.
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
            from tensorboardX.summary import scalar
        except ImportError as error:
            raise UserError("--tensorboard: needs tensorboardX; pip install 'ugejax[tensorboard]'") from error
        self._open, self._event, self._scalar = EventsWriter, Event, scalar
        self._folder, self._stage, self._writer, self._files = folder, "", None, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the scalars of a report, which are on the disk then."""
        report: dict[str, Any] = record.__dict__["report"]
        if not report["figures"]:
            return
        try:
            writer = self._writer_of(report["stage"])
            for name, value in report["figures"].items():
                summary = self._scalar(name, value)
                writer.write_event(self._event(wall_time=time.time(), step=report["done"], summary=summary))
            writer.flush()
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def close(self) -> None:
        """Close the file of the last stage."""
        if self._writer is not None:
            self._writer.close()
        super().close()

    def _writer_of(self, stage: str) -> Any:
        if self._writer is None or stage != self._stage:
            if self._writer is not None:
                self._writer.close()
            run = self._folder / re.sub(r"[^\w.-]+", "-", stage)
            run.mkdir(exist_ok=True)
            self._files += 1  # those of one second would have one name
            self._writer = self._open(str(run / "events"), f".{os.getpid()}.{self._files}")
            self._stage = stage
        return self._writer


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"--tensorboard {folder}: cannot be written ({error.strerror or error})")
