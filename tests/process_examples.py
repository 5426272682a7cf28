"""What processes are given that tests start for themselves, and a way to start them without imports of their own."""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
# Imported once, in a process that has asked for no device and of which all others are forks.
_SERVER.set_forkserver_preload(
    ["pytest", "ugejax.app.cli.protect", "ugejax.app.cli.arena_pool", "orbax.checkpoint", "cryptography.exceptions"]
)


def with_devices(count: int) -> str:
    """XLA_FLAGS of a process that has so many devices of one CPU; what `conftest` chose for all processes stays."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()


def begin(function: Callable[..., int], *arguments: object, said: Path, **changed: str) -> ForkServerProcess:
    """Start a process that ends with what a function of a module returns.

    It begins where importing JAX and the commands, which takes seconds, is over, and with no device yet. So what JAX
    reads from the environment when it is imported cannot be changed for it; XLA's flags can.

    Args:
        function: what it does; its result is the exit code.
        arguments: of the function.
        said: a new file for what it writes to standard error; what it writes to standard output is lost.
        changed: of this process's environment.
    """
    process = _SERVER.Process(target=_do, args=(function, arguments, said, os.environ | changed), daemon=True)
    process.start()
    return process


def _do(function: Callable[..., int], arguments: tuple, said: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with said.open("wb") as errors, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    code = function(*arguments)
    atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
    sys.exit(code)
