"""What programs are compiled with, where XLA's own choice is not the fastest, and what they are traced for."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import Partial

# XLA for CPU gives a convolution to its library YNNPACK, which takes the derivative by the kernel of large batches at a
# third of the rate of XLA's own (`experiments.bench.lowerings`). What is named here is given to it as by default.
ON_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}

# Programs of a kind that stay compiled: an arena trains some twenty networks by two or three recipes.
_KEPT = 64

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# What `jax.jit` has traced is kept for each of its values.
_TRACED_FOR = jax.make_user_context(default_value=None)


def on_cpu() -> bool:
    """Whether programs that are traced now are for a CPU: what a function asks that is written in another way there.

    It is the default backend's kind, but in `traced_for`.
    """
    return (_TRACED_FOR.value or jax.default_backend()) == "cpu"


def training_dtype() -> Any:
    """In which dtype networks compute that are trained for their score alone: bfloat16 on an accelerator.

    Returns:
        jnp.bfloat16; None, which leaves it at that of the images, on a CPU, which has no fast products of such numbers.
    """
    return None if on_cpu() else jnp.bfloat16


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """In this context programs are written as for that platform, whatever they run on.

    For `jax.export` to another platform, which traces here, and to measure what a way of writing gains.

    Args:
        platform: "cpu", or any other name for an accelerator, such as "cuda" and "tpu".
    """
    with _TRACED_FOR(platform):
        yield


@functools.cache
def compiler_options() -> dict[str, str]:
    """The options of XLA under which networks train fastest on the default backend, for `jax.jit` of a whole program.

    `jax.jit(step, compiler_options=compiler_options())` compiles a training step or a perturbation update as
    `ugejax`'s own loops do. JAX takes options for the outermost program only: see `compiled`.

    Returns:
        The options for a CPU; {} for an accelerator, and where this release of XLA does not know them.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=ON_CPU).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return ON_CPU


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` of a function of arrays under `compiler_options`.

    Called while another function is traced, under `jax.jit`, `jax.grad` or `jax.vmap`, it is a part of that one. The
    arrays that a `jax.tree_util.Partial` binds, as `ugejax.uge.make_update` returns it, are arguments of the program;
    `jax.jit` of it would write them into the program as constants.
    """
    if isinstance(function, Partial):
        called = compiled(_call)
        return functools.partial(called, function)
    outermost, part = jax.jit(function, compiler_options=compiler_options()), jax.jit(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))
        return (part if traced else outermost)(*arguments)

    return call


def _call(function: Partial, *arguments: Any) -> Any:
    return function(*arguments)


def kept(build: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function that builds a step, or a part of one, which gives equal arguments the same result again.

    `jax.jit` traces, lowers and compiles a function object once for each shape. A step that is built anew for every
    training would be a new object each time, however equal. The last `_KEPT` results stay, with what was compiled of
    them. Arguments that cannot be hashed, as a network with a list among its fields, are built for anew.
    """
    cached = functools.lru_cache(maxsize=_KEPT)(build)

    @functools.wraps(build)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if all(_hashable(argument) for argument in (*arguments, *named.values())):
            return cached(*arguments, **named)
        return build(*arguments, **named)

    call.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
    return call


def _hashable(argument: Any) -> bool:
    try:
        return isinstance(hash(argument), int)
    except TypeError:
        return False
