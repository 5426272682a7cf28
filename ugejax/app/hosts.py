"""One job in several processes, on one machine or many: how work is divided and what the processes exchange.

All run the same command and see the same files, on a file system that they share. `jax.distributed` brings them
together and ends the others when one has died; the barrier is Orbax's. With one process nothing here does anything.
"""

import atexit
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ugejax.errors import UserError

# A process that has not been heard of for so long is dead, and the others end: long for a network, short for a user.
_HEARTBEAT_SECONDS = 30
# One process may have much more to do than another, and one that died is noticed anyway.
_PATIENCE_SECONDS = 7 * 24 * 3600
# How long one that fails waits to tell others why; those that are at work all the while are ended by its end.
_FAREWELL_SECONDS = 10
_DONE, _FAILED = b"\0", b"\1"
_exchanges = itertools.count()


class Elsewhere(UserError):
    """Another process of the job failed; the line says which one, and what its own line was."""


class _Lost(UserError):
    """Another process of the job cannot be reached any more."""


@contextlib.contextmanager
def joined(coordinator: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """Join the other processes of the job; if the block fails in one of them, it does in all.

    To be entered before jax is asked for a device. What is None, `jax.distributed` finds out by itself under SLURM,
    Open MPI, Kubernetes and on Cloud TPU.

    Args:
        coordinator: HOST:PORT at which process 0 can be reached.
        processes: how many there are.
        process: the number of this one, from 0.

    Raises:
        UserError: no cluster is found, or the coordinator's port is taken.
        Elsewhere: the block failed in another process.
    """
    # It would catch SIGTERM, for programs that ask for it; here a process may end at any time.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except ValueError:  # something is None still
        raise UserError(
            "no cluster (SLURM, Open MPI, Kubernetes, Cloud TPU) is found around this process; name it by "
            "`coordinator`, `processes` and `process`"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"process 0 cannot listen there ({error}); name another port", argument="coordinator") from None
    all_know = False
    try:
        yield
        exchange()
        all_know = True
    except Elsewhere:
        all_know = True
        raise
    except _Lost:
        raise
    except BaseException as error:
        said = str(error) if isinstance(error, UserError | OSError) else f"ended by {type(error).__name__}"
        with contextlib.suppress(_Lost):
            _gather(_FAILED + said.encode(errors="replace"), patience=_FAREWELL_SECONDS)
            all_know = True
        raise
    finally:
        if all_know:
            jax.distributed.shutdown()
        else:
            atexit.register(_leave)


def leads() -> bool:
    """Whether this process does what only one may do: it decides, prints, and writes what is not shared out."""
    return jax.process_index() == 0


def share(n: int) -> slice:
    """This process's part of n things in a row."""
    index, count = jax.process_index(), jax.process_count()
    return slice(index * n // count, (index + 1) * n // count)


def exchange(content: bytes = b"") -> list[bytes]:
    """Give all processes a content of this one's, wait for theirs, and return all in the processes' order.

    All processes must call it equally often. When it returns, all have done what lies before it.

    Raises:
        Elsewhere: another process failed in the block of `joined`.
    """
    if jax.process_count() == 1:
        return [content]
    answers = _gather(_DONE + content, patience=_PATIENCE_SECONDS)
    for process, answer in enumerate(answers):
        if answer.startswith(_FAILED):
            raise Elsewhere(f"process {process} of {len(answers)}: {answer[1:].decode()}")
    return [answer[1:] for answer in answers]


def from_leader(make: Callable[[], Any]) -> Any:
    """What the process that leads makes, which the others wait for; it must be a JSON value."""
    return json.loads(exchange(json.dumps(make()).encode() if leads() else b"")[0])


def in_shares(function: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
    """function(thing) of each thing, computed by all processes, each its share; results must be JSON values."""
    own = json.dumps([function(thing) for thing in things[share(len(things))]])
    return [result for part in exchange(own.encode()) for result in json.loads(part)]


def gathered(rows: np.ndarray) -> np.ndarray:
    """The rows [n, ...] of all processes in their order, [N, ...]."""
    parts = exchange(rows.tobytes())
    return np.concatenate([np.frombuffer(part, rows.dtype).reshape(-1, *rows.shape[1:]) for part in parts])


def _leave() -> None:
    """End at once, by which the others end too: at its exit jax would wait for them, and then abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def _gather(message: bytes, *, patience: float) -> list[bytes]:
    import orbax.checkpoint as ocp  # here, since it takes half a second to import

    # A collective of some backends never ends when a process is missing: only those that all are there for are begun.
    barrier = ocp.multihost.get_barrier_sync_fn()
    try:
        barrier(key=f"ugejax exchange {next(_exchanges)}", timeout_ms=int(1000 * patience))
        sizes = multihost_utils.process_allgather(np.array([len(message)], np.int32)).ravel()
        # Of few sizes, since a program is compiled for each.
        padded = np.zeros(1 << int(sizes.max()).bit_length(), np.uint8)
        padded[: len(message)] = np.frombuffer(message, np.uint8)
        rows = multihost_utils.process_allgather(padded)
    except jax.errors.JaxRuntimeError as error:
        raise _Lost("another process of this job ended; start all of them again, and they go on from here") from error
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]
