"""The command line: `ugejax demo`, `protect`, `train`, `evaluate`, `attack`, `arena`, `verify` and more: see --help."""

import argparse
import contextlib
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence

from ugejax.app.allocator import keep_freed_memory
from ugejax.app.cli.arguments import build_parser, flags
from ugejax.errors import UserError

INTERRUPTED = 130  # what a shell expects after Ctrl-C
# Forms of the user's own, comma-separated PACKAGE.MODULE:FORM: a key, which others may have made, says the name alone.
OWN_FORMS = "UGEJAX_FORMS"
# What the library's functions call otherwise than the parser.
_OTHERWISE = {"distillations": "distillation", "identities": "identity", "public_keys": "to", "settings": "set"}
# What computes nothing, and so need not wait for jax.
_WITHOUT_JAX = ("check", "list")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 a check failed, 2 a mistake of the user's, 130 interrupted."""
    parsed = build_parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    keep_freed_memory()
    shared = {"attack": "evaluate", **dict.fromkeys(("import", "export", "export-key"), "exchange")}
    shared |= dict.fromkeys(("key identity", "key send", "key receive"), "handing")
    module = shared.get(f"{parsed.command} {getattr(parsed, 'action', '')}".strip(), parsed.command)
    try:
        # Imported late, so that --help and a mistyped argument need not wait for jax.
        if parsed.command in _WITHOUT_JAX:
            return importlib.import_module(f"ugejax.app.cli.{module}").run(parsed)
        importlib.import_module("ugejax.app.cli.compiled").keep_compiled()
        with _joined(parsed) as leads, _logging(parsed) if leads else contextlib.nullcontext():
            if own := os.environ.get(OWN_FORMS):
                importlib.import_module("ugejax.app.cli.own").form_names(own, OWN_FORMS)
            if leads:
                _try_places(parsed)
            return _run(importlib.import_module(f"ugejax.app.cli.{module}").run, parsed)
    except UserError as error:
        print(f"ugejax {parsed.command}: {in_flags(str(error))}{_advice(error, parsed)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone; nothing is left to say
        return 1
    except OSError as error:
        place = error.filename or "the output"
        print(f"ugejax {parsed.command}: {place}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ugejax {parsed.command}: interrupted; the same command goes on from what is finished", file=sys.stderr)
        return INTERRUPTED


def in_flags(message: str) -> str:
    """A message of the library with flags in place of the arguments, whose names stand there in backquotes."""
    known = flags(build_parser())
    known |= {argument: known[name] for argument, name in _OTHERWISE.items()}
    return re.sub(r"`(\w+)`", lambda found: known.get(found[1], found[0]), message)


def _try_places(parsed: argparse.Namespace) -> None:
    """Refuse at once what could not be written when the work is done."""
    from ugejax.app.files import try_place

    places = [("--out", getattr(parsed, "out", None))]
    if parsed.command == "protect":
        places += [("--key", folder) for folder in parsed.key or ()]
    for option, place in places:
        if place is not None:
            try_place(place, option)


def _advice(error: UserError, parsed: argparse.Namespace) -> str:
    """What can be done on the command line about images that cannot be read; nothing about other mistakes."""
    from ugejax.data.image_file import Unreadable

    if not isinstance(error, Unreadable) or not hasattr(parsed, "skip_unreadable"):
        return ""
    return f" with --skip-unreadable; `ugejax check {parsed.source} --out FILE` lists all"


def _run(command: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    """Run a command; with --auto-batch as often as the device's memory runs out, with ever smaller batches."""
    from ugejax.memory import OutOfMemory, estimated_beforehand, ran_out

    baseline = getattr(parsed, "method", "uge") != "uge"
    otherwise = f"choose {'a smaller --set batch_size' if baseline else 'a smaller network'} or smaller images"
    beforehand = estimated_beforehand if getattr(parsed, "auto_batch", False) else contextlib.nullcontext
    while True:
        try:
            with beforehand():
                return command(parsed)
        except OutOfMemory as error:
            smaller = error.fitting
            if smaller is None or baseline or not hasattr(parsed, "batch_size"):
                raise UserError(f"{error}; {otherwise}") from error
            if not parsed.auto_batch:
                advice = f"give --batch-size {smaller}, which should fit, or --auto-batch"
                raise UserError(f"{error}; {advice}") from error
            print(f"{error}; again with --batch-size {smaller}", file=sys.stderr)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            raise UserError(f"the device's memory is full; {otherwise}") from error
        parsed.batch_size = smaller


@contextlib.contextmanager
def _joined(parsed: argparse.Namespace) -> Iterator[bool]:
    """With the other processes of the job, if it has several; whether this one leads."""
    coordinator, count, process = (getattr(parsed, name, None) for name in ("coordinator", "processes", "process"))
    named = coordinator is not None and count is not None and process is not None and process < count
    if not named and (coordinator, count, process) != (None, None, None):
        raise UserError("--coordinator: needs --processes N, and --process I from 0 to N - 1")
    if not named and not getattr(parsed, "distributed", False):
        yield True
        return
    if getattr(parsed, "auto_batch", False):
        raise UserError("--auto-batch: is for one process, which cannot know of the others' memory; give --batch-size")
    from ugejax.app.hosts import joined, leads

    with joined(coordinator, count, process):
        yield leads()


@contextlib.contextmanager
def _logging(parsed: argparse.Namespace) -> Iterator[None]:
    """Progress as lines of JSON in a file and as scalars in a folder, where they are named."""
    file, folder = getattr(parsed, "log_json", None), getattr(parsed, "tensorboard", None)
    with contextlib.ExitStack() as logs:
        if file is not None:
            from ugejax.app.cli.progress import log_to, stop_logging

            logs.callback(stop_logging, log_to(file))
        if folder is not None:
            from ugejax.app.cli.tensorboard import scalars_in

            logs.enter_context(scalars_in(folder))
        yield
