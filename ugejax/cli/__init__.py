"""The command line: `ugejax demo`, `protect`, `train`, `evaluate`, `attack`, `arena`, `verify` and more: see --help."""

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ugejax.cli.arguments import build_parser
from ugejax.errors import UserError

INTERRUPTED = 130  # what a shell expects after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 a check failed, 2 a mistake of the user's, 130 interrupted."""
    parsed = build_parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    shared = {"attack": "evaluate", **dict.fromkeys(("import", "export", "export-key"), "exchange")}
    module = shared.get(parsed.command, parsed.command)
    try:
        # Imported late, so that --help and a mistyped argument need not wait for jax.
        importlib.import_module("ugejax.cli.compiled").keep_compiled()
        with _together(parsed) as leads, _logging(getattr(parsed, "log_json", None) if leads else None):
            return importlib.import_module(f"ugejax.cli.{module}").run(parsed)
    except UserError as error:
        print(f"ugejax {parsed.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone; nothing is left to say
        return 1
    except OSError as error:
        place = error.filename or "the output"
        print(f"ugejax {parsed.command}: {place}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ugejax {parsed.command}: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def _together(parsed: argparse.Namespace) -> Iterator[bool]:
    """With the other processes of the job, if it has several; whether this one leads."""
    coordinator, count, process = (getattr(parsed, name, None) for name in ("coordinator", "processes", "process"))
    named = coordinator is not None and count is not None and process is not None and process < count
    if not named and (coordinator, count, process) != (None, None, None):
        raise UserError("--coordinator: needs --processes N, and --process I from 0 to N - 1")
    if not named and not getattr(parsed, "distributed", False):
        yield True
        return
    from ugejax.hosts import leads, together

    with together(coordinator, count, process):
        yield leads()


@contextlib.contextmanager
def _logging(file: Path | None) -> Iterator[None]:
    """Progress as lines of JSON in a file, if there is one."""
    if file is None:
        yield
        return
    from ugejax.cli.progress import log_to, stop_logging

    handler = log_to(file)
    try:
        yield
    finally:
        stop_logging(handler)
