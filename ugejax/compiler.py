"""What programs are compiled with, where XLA's own choice is not the fastest."""

import functools

import jax

# XLA for CPU gives a convolution to its library YNNPACK, which takes the derivative by the kernel of large batches at a
# third of the rate of XLA's own (`experiments.bench.lowerings`). What is named here is given to it as by default.
ON_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


@functools.cache
def compiler_options() -> dict[str, str]:
    """The options of XLA under which networks train fastest on the default backend, for `jax.jit` of a whole program.

    `jax.jit(step, compiler_options=compiler_options())` compiles a training step or a perturbation update as
    `ugejax`'s own loops do. JAX takes options for the outermost program only.

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
