"""Recognition of errors that mean a device's memory is full, and the batch size that would fit."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax


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


@contextlib.contextmanager
def whole_batches(batch_size: int | None, program: Callable[[], Any]) -> Iterator[None]:
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
    limit = min((device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices())
    if limit:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # what cannot be compiled again says nothing
            taken = program().memory_analysis()
            fixed = taken.argument_size_in_bytes + taken.output_size_in_bytes - taken.alias_size_in_bytes
            room = (limit - fixed) * batch_size // max(1, taken.temp_size_in_bytes)
            most = max(1, min(most, room))
    half = batch_size // 2
    while half > most:
        half //= 2
    return half or None
