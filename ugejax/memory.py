"""Recognition of errors that mean a device's memory is full, and the batch size that would fit."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax

_BEFOREHAND: ContextVar[bool] = ContextVar("_BEFOREHAND", default=False)


class OutOfMemory(Exception):
    """A batch of a training takes more memory than the device has; with another batch size the result is another.

    Attributes:
        batch_size: images a step.
        fitting: how many would fit; None where it was one.
    """

    def __init__(self, batch_size: int, fitting: int | None):
        """Say so."""
        super().__init__(batch_size, fitting)
        self.batch_size, self.fitting = batch_size, fitting

    def __str__(self) -> str:
        return f"the device's memory does not hold the {self.batch_size} images of a batch and what comes of them"


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a device's memory is full."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


@dataclass(frozen=True)
class Estimate:
    """What a compiled step takes of a device's memory, in bytes, as the compiler says.

    Attributes:
        fixed: for arguments and results, among them all images, whatever the batch size.
        temporary: in the step, in proportion to the batch size.
    """

    fixed: int
    temporary: int

    @property
    def total(self) -> int:
        """Both."""
        return self.fixed + self.temporary


def estimate(program: Any) -> Estimate:
    """The estimate of a `jax.stages.Compiled`; results that take the place of donated arguments count once."""
    taken = program.memory_analysis()
    fixed = taken.argument_size_in_bytes + taken.output_size_in_bytes - taken.alias_size_in_bytes
    return Estimate(fixed, taken.temp_size_in_bytes)


def limit() -> int:
    """Bytes that each of this process's devices can give; 0 where one of them does not tell, as a CPU."""
    return min((device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices())


@contextlib.contextmanager
def estimated_beforehand() -> Iterator[None]:
    """In this context `check_fits` estimates, so that no step is run that would not fit."""
    token = _BEFOREHAND.set(True)
    try:
        yield
    finally:
        _BEFOREHAND.reset(token)


def check_fits(batch_size: int | None, program: Callable[[], Any]) -> None:
    """Refuse a step before it is run, in `estimated_beforehand` and where the devices tell their size.

    The step is compiled for it; JAX keeps that for the run.

    Args:
        batch_size: images a step; None where nothing is known of them.
        program: compiles the step.

    Raises:
        OutOfMemory: it takes more than the devices have.
    """
    if batch_size is None or not _BEFOREHAND.get() or not limit():
        return
    with undivided_batches(batch_size, program):
        if estimate(compiled := program()).total > limit():
            raise OutOfMemory(batch_size, fitting(batch_size, lambda: compiled))


@contextlib.contextmanager
def undivided_batches(batch_size: int | None, program: Callable[[], Any]) -> Iterator[None]:
    """Work on batches that cannot be divided.

    Args:
        batch_size: images a step; None where nothing is known of them.
        program: compiles the step, for `fitting`.

    Raises:
        OutOfMemory: the device's memory ran out, and the batch size is known.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if batch_size is None or not ran_out(error):
            raise
        raise OutOfMemory(batch_size, fitting(batch_size, program)) from error


def fitting(batch_size: int, program: Callable[[], Any]) -> int | None:
    """A batch size that would fit: a half, a quarter and so on of one that did not; None for less than one image.

    Where the device tells its size, by what the compiler says that the step takes: a fixed part for arguments and
    results, among them all images, and an equal part for each image of the batch. Otherwise the half.

    Args:
        batch_size: the one that did not.
        program: gives the compiled step, see `jax.stages.Compiled.memory_analysis`.
    """
    most = batch_size // 2
    if size := limit():
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # what cannot be compiled again says nothing
            taken = estimate(program())
            room = (size - taken.fixed) * batch_size // max(1, taken.temporary)
            most = max(1, min(most, room))
    half = batch_size // 2
    while half > most:
        half //= 2
    return half or None
