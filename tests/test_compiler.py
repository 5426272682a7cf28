"""The compiler's options: those that this XLA knows, on a CPU alone, for the programs that train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax import compiler
from ugejax.compiler import compiled, compiler_options, on_cpu, traced_for
from ugejax.networks import build
from ugejax.networks.convolution import convolve, convolve_by_xla
from ugejax.training import TrainState, loop


@pytest.fixture(autouse=True)
def _asked_anew():
    """Nothing that is kept from before a test, or by it for others."""
    kept = (compiler_options, loop._predictor, loop._forward)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


def test_convolutions_on_a_cpu_are_left_to_xla_itself():
    if jax.default_backend() != "cpu":
        pytest.skip("what XLA for CPU makes of it")

    def gradient(x, kernel):
        return jax.grad(lambda kernel: convolve_by_xla(x, kernel, 1).sum())(kernel)

    def library_calls(**settings) -> int:
        program = jax.jit(gradient, **settings).lower(jnp.ones((8, 8, 8, 32)), jnp.ones((3, 3, 32, 32))).compile()
        return program.as_text().count("ynn_fusion")

    assert compiler_options() == compiler.ON_CPU
    assert library_calls(compiler_options=compiler_options()) < library_calls()


def test_an_xla_that_does_not_know_them_gets_none(monkeypatch):
    monkeypatch.setattr(compiler, "ON_CPU", {"xla_cpu_of_another_release": "1"})
    assert compiler_options() == {}


def test_an_accelerator_gets_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}


def test_what_is_traced_for_another_platform_is_written_as_there_and_forgotten():
    if not on_cpu():
        pytest.skip("where a pointwise convolution is one")
    inner = jax.jit(lambda x, kernel: convolve(x, kernel, 1))

    def written() -> list[str]:
        traced = jax.make_jaxpr(lambda x, kernel: inner(x, kernel))(jnp.ones((1, 8, 8, 4)), jnp.ones((1, 1, 4, 2)))
        return [name for name in ("dot_general", "conv_general_dilated") if name in str(traced)]

    assert written() == ["dot_general"]
    with traced_for("cuda"):
        assert not on_cpu() and compiler_options() == compiler.ON_CPU  # it is the device that compiles
        assert written() == ["conv_general_dilated"]
    assert on_cpu() and written() == ["dot_general"]


def test_training_and_prediction_are_compiled_with_them(monkeypatch):
    for place in (compiler, loop):
        monkeypatch.setattr(place, "compiler_options", lambda: {"xla_cpu_of_another_release": "1"})
    module, images, labels = build("mlp", 3), np.zeros((4, 4, 4, 1), np.uint8), np.zeros(4, np.int32)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))

    def step(state, batch, key):
        return state.replace(step=state.step + 1), batch.y.sum()

    state = TrainState(jnp.zeros((), jnp.int32), {}, {}, {})
    arguments = (state, jnp.asarray(images), jnp.asarray(labels), jnp.arange(4), jax.random.key(0), 1)
    for program in (
        lambda: loop.run_steps(loop.on_resident(step, 4))(*arguments),
        lambda: loop.stream_steps(step, 4)(*arguments),
        lambda: loop.accuracy(module, variables, images, labels),
        lambda: loop.outputs(module, variables, images),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_of_another_release"):
            program()


def test_what_is_compiled_with_them_can_be_a_part_of_another_program(monkeypatch):
    square = compiled(lambda x, y: {"sum": x * x + y["y"]})
    x, y = jnp.arange(3.0), {"y": jnp.ones(3)}
    for within in (square, jax.jit(square), jax.vmap(square)):
        np.testing.assert_array_equal(within(x, y)["sum"], [1, 2, 5])
    np.testing.assert_array_equal(jax.grad(lambda x: square(x, y)["sum"].sum())(x), 2 * x)
    monkeypatch.setattr(compiler, "compiler_options", lambda: {"xla_cpu_of_another_release": "1"})
    other = compiled(lambda x: x)
    np.testing.assert_array_equal(jax.jit(other)(x), x)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_of_another_release"):
        other(x)
