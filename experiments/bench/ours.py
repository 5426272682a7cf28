"""Our side of the benchmark: the very functions that `ugejax` compiles, run as its loop on a CPU runs them."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench.cases import NUM_CLASSES, Case, start
from experiments.bench.worker import Answers, clocked, serve
from ugejax.app.allocator import keep_freed_memory
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.compiler import compiler_options
from ugejax.networks import build, initial_variables
from ugejax.networks.convolution import convolve_by_xla
from ugejax.training import default_recipe, initial_state, make_train_step, prepared
from ugejax.training.loop import on_resident
from ugejax.training.recipe import Recipe
from ugejax.uge import Method, NoiseState, make_update
from ugejax.views import IdentityView

# Side of the square matrices by which the floor is measured, large enough to fill the machine.
SIDE = {"cpu": 2048}
LARGE_SIDE = 8192
# What is convolved by 3x3 as the other floor: a layer in the middle of `r18`.
MAPS = (32, 16, 16, 256)


def method(case: Case) -> Method:
    """The perturbation with one loss, and without transforms, whose random numbers PyTorch cannot repeat."""
    losses = ("gradient_matching", "feature_distance", "undistillation")
    weights: Any = {name: float(name == case.loss) for name in losses}
    return Method(batch_size=case.batch, steps_per_batch=case.steps, transforms=(), **weights)


def recipe(case: Case) -> Recipe:
    """The network's own, with the case's batch size, and without shifts, whose random numbers PyTorch cannot repeat."""
    return replace(default_recipe(case.network), batch_size=case.batch, shift=0)


def step_and_state(case: Case, arrays: dict[str, np.ndarray], variables: Any, *, dtype: Any = None) -> tuple[Any, Any]:
    """The step, (state, images, labels, order, key) -> (state, loss or losses), and its first state.

    A training step computes in the dtype, see `make_train_step`.
    """
    module = build(case.network, NUM_CLASSES)
    if case.name == "train_step":
        optimizer = recipe(case).build_optimizer(len(arrays["images"]))
        step = make_train_step(module, optimizer, recipe(case), dtype=dtype)
        return on_resident(step, case.batch), initial_state(variables, optimizer)
    optimizer = optax.adam(1e-3)
    # Two equal snapshots: one has to be looked up, and PyTorch need not know which.
    trajectory = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables)
    network = AuthorizedNetwork(IdentityView(), module, variables, "all")
    wrong = jnp.arange(1, NUM_CLASSES + 1) % NUM_CLASSES
    surrogates = (initial_state(variables, optimizer),) if case.loss == "feature_distance" else ()
    state = NoiseState(jnp.zeros((), jnp.int32), jnp.asarray(arrays["noise"]), surrogates)
    update = make_update(method(case), network, trajectory, [module], [optimizer], wrong)
    return on_resident(update, case.batch), state


def outcome(state: Any, loss: Any) -> dict[str, Any]:
    """What the two sides have to agree on after a step: the loss, the noise, and the weights that trained."""
    trained = state if not isinstance(state, NoiseState) else (*state.surrogates, None)[0]
    result: dict[str, Any] = {"loss": sum(jax.tree.leaves(loss))}
    if isinstance(state, NoiseState):
        result["noise"] = state.noise
    if trained is not None:
        result |= flax.traverse_util.flatten_dict({"params": trained.params}, sep="/")
    return {name: np.asarray(value) for name, value in result.items()}


def prepare(case: Case, folder: Path) -> Answers:
    """Compile the step as `run_steps` does on a CPU, leave its start and where it ends in the folder, and be ready."""
    keep_freed_memory()  # as the command line does
    jax.config.update("jax_enable_compilation_cache", False)
    arrays, key = start(case), jax.random.key(0)
    module = build(case.network, NUM_CLASSES)
    variables = prepared(module, initial_variables(module, key, (case.size, case.size, 3)), arrays["images"])
    weights: Any = flax.traverse_util.flatten_dict(variables, sep="/")
    np.savez(folder / "before.npz", **arrays, **weights)
    step, state = step_and_state(case, arrays, variables)
    state = jax.tree.map(jnp.array, state)  # buffers of its own, since it is donated
    images, labels, order = jnp.asarray(arrays["images"]), jnp.asarray(arrays["labels"]), jnp.arange(2 * case.batch)

    began = time.perf_counter()
    options = compiler_options()
    program = jax.jit(lambda step, *arguments: step(*arguments), donate_argnums=1, compiler_options=options)
    compiled = program.lower(step, state, images, labels, order, key).compile()
    compile_seconds = time.perf_counter() - began
    cost: Any = compiled.cost_analysis()
    state, loss = compiled(step, state, images, labels, order, key)
    np.savez(folder / "ours.npz", **outcome(state, loss))

    def run() -> None:
        nonlocal state
        state, loss = compiled(step, state, images, labels, order, key)
        jax.block_until_ready((state, loss))

    backend = jax.default_backend()
    side = SIDE.get(backend, LARGE_SIDE)
    square = jax.random.normal(key, (side, side))
    product = jax.jit(jnp.matmul).lower(square, square).compile()
    product(square, square).block_until_ready()
    maps, kernel = jax.random.normal(key, MAPS), jax.random.normal(key, (3, 3, MAPS[-1], MAPS[-1]))
    convolution = jax.jit(lambda x, k: convolve_by_xla(x, k, 1), compiler_options=options).lower(maps, kernel).compile()
    convolution(maps, kernel).block_until_ready()
    facts = {
        "backend": backend,
        "device": jax.devices()[0].device_kind,
        "compile_seconds": round(compile_seconds, 2),
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "product_flops": 2 * side**3,
        "convolution_flops": 2 * maps.size * kernel.size // MAPS[-1],
    }
    return {
        "facts": lambda: facts,
        "seconds": lambda: clocked(run),
        "product_seconds": lambda: clocked(lambda: product(square, square).block_until_ready()),
        "convolution_seconds": lambda: clocked(lambda: convolution(maps, kernel).block_until_ready()),
    }


if __name__ == "__main__":
    serve(prepare)
