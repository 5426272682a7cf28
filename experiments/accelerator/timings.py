"""How fast the compiled steps are on this device, and which of two ways of writing is the faster one here."""

import contextlib
import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.accelerator.scale import Job
from experiments.bench import __main__ as bench
from experiments.bench import together as bench_together
from experiments.bench.cases import NUM_CLASSES, Case, start
from experiments.bench.cases import SCALES as BENCH
from experiments.bench.ours import step_and_state
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection
from ugejax.authorized import new_key
from ugejax.baselines.pgd import descend, make_gradient
from ugejax.compiler import compiler_options, traced_for
from ugejax.countermeasures.adversarial import pgd
from ugejax.countermeasures.dp_sgd import clip_and_noise
from ugejax.losses import error_minimising
from ugejax.memory import estimate
from ugejax.networks import build, initial_variables
from ugejax.training import Batch, Recipe, default_recipe, initial_state, make_train_step, prepared
from ugejax.training.loop import epoch_order, on_resident, run_steps
from ugejax.transforms.geometry import random_crop
from ugejax.transforms.rand_augment import rand_augment
from ugejax.uge import Method
from ugejax.views import DEFAULT_FORM, default_step

STEPS = 32  # of an epoch that is timed as a loop and as one program


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The median time of a call that has been made before."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _precision(name: str) -> contextlib.AbstractContextManager[Any]:
    return jax.default_matmul_precision("highest") if name == "float32" else contextlib.nullcontext()


def _product_rate(side: int, precision: str, repeats: int) -> float:
    """Operations a second of a product of square matrices, by which utilisation is told."""
    square = jnp.ones((side, side), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    with _precision(precision):
        product = jax.jit(jnp.matmul).lower(square, square).compile()
    jax.block_until_ready(product(square, square))
    return 2 * side**3 / seconds(lambda: product(square, square), max(3, repeats))


def steps(job: Job) -> Iterator[dict[str, Any]]:
    """Training step, update and PGD step: rate, share of the product's rate, memory, and time of compilation."""
    scale = job.scale
    rates = {name: _product_rate(scale.product, name, scale.repeats) for name in scale.precisions}
    for network in scale.networks:
        for batch in scale.batches:
            for name in ("train_step", "perturbation_update", "pgd_step"):
                for precision in scale.precisions:
                    if precision == "bfloat16" and name != "train_step":
                        continue  # what decides is float32
                    row = {"step": name, "network": network, "batch": batch, "precision": precision}
                    with _precision(precision):
                        found = _step(name, network, batch, scale.side, scale.repeats, precision)
                    utilisation = found["flops"] / found["seconds"] / rates[precision]
                    yield {**row, **found, "utilisation": utilisation, "product_flops_per_second": rates[precision]}


def _step(name: str, network: str, batch: int, side: int, repeats: int, precision: str) -> dict[str, Any]:
    kind = "train_step" if name == "pgd_step" else name
    loss = "gradient_matching" if name == "perturbation_update" else ""
    case = Case(kind, loss, network, batch, repeats, size=side)
    arrays, key, module = start(case), jax.random.key(0), build(network, NUM_CLASSES)
    variables = prepared(module, initial_variables(module, key, (side, side, 3)), arrays["images"])
    if name == "pgd_step":
        gradient = make_gradient(
            lambda weights, key, x, y: error_minimising(jnp.asarray(module.apply(weights, x, train=False)), y)
        )  # fmt: skip
        x, y = jnp.asarray(arrays["images"][:batch], jnp.float32) / 255, jnp.asarray(arrays["labels"][:batch])
        program, arguments, donated = gradient, (variables, key, x, y, jnp.zeros_like(x)), ()
    else:
        dtype = jnp.bfloat16 if precision == "bfloat16" else None
        step, state = step_and_state(case, arrays, variables, dtype=dtype)
        order = jnp.arange(2 * batch)
        data = jnp.asarray(arrays["images"]), jnp.asarray(arrays["labels"])
        program, donated = lambda step, *rest: step(*rest), (1,)
        arguments = (step, jax.tree.map(jnp.array, state), *data, order, key)
    began = time.perf_counter()
    options = compiler_options()
    compiled = jax.jit(program, donate_argnums=donated, compiler_options=options).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - began
    flops = (compiled.cost_analysis() or {}).get("flops", 0.0)  # not every backend counts
    held: list[tuple[Any, ...]] = [arguments]

    def run() -> Any:
        result = compiled(*held[0])
        if donated:
            held[0] = (held[0][0], result[0], *held[0][2:])
        return result

    jax.block_until_ready(run())
    taken = seconds(run, repeats)
    return {
        "seconds": taken, "images_per_second": batch / taken, "flops": flops,
        "compile_seconds": compile_seconds, "estimated_bytes": estimate(compiled).total,
    }  # fmt: skip


def beside_torch(job: Job) -> Iterator[dict[str, Any]]:
    """The benchmark of the steps beside PyTorch, where that is installed."""
    if importlib.util.find_spec("torch") is None:
        yield {"torch": "not installed; pip install '.[bench]'"}
        return
    for case in BENCH["accelerator"]:
        if case.network in job.scale.networks:
            try:
                yield bench.measure(case, with_torch=True, before=None, clock=0)
            except bench.Disagreement as error:
                yield {"name": case.name, "network": case.network, "batch": case.batch, "disagreement": str(error)}


def bulk(job: Job) -> Iterator[dict[str, Any]]:
    """Images a second of the release from what is learned, on all devices: class-wise noise, and a generator."""
    side, count, rng = job.scale.side, job.scale.bulk, np.random.default_rng(0)
    shape = (side, side, 3)
    images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = rng.integers(0, NUM_CLASSES, count).astype(np.int32)
    key = new_key(
        b"seed 0", form=DEFAULT_FORM, network="mlp", image_shape=shape, num_classes=NUM_CLASSES,
        step=default_step(DEFAULT_FORM, Method.eps), recipe=default_recipe("mlp"), from_seed=True,
    )  # fmt: skip
    network = build_authorized(key).of_release(key.release_salt("accelerator"))
    for parametrisation in ("class-wise", "generator"):
        job_of = Protection.by(key, network, Method(parametrisation=parametrisation))
        noise = job_of.learn(images, labels, job.out / "bulk")
        began = time.perf_counter()
        job_of.release(images, labels, noise)
        first = time.perf_counter() - began
        taken = seconds(lambda made=job_of, noise=noise: made.release(images, labels, noise), 1)
        yield {
            "parametrisation": parametrisation, "images": count, "side": side, "first_seconds": first,
            "seconds": taken, "images_per_second": count / taken,
        }  # fmt: skip


def together(job: Job) -> Iterator[dict[str, Any]]:
    """Hackers of one architecture together, beside one after the other."""
    for network in job.scale.together:
        yield bench_together.row(network, job.scale.hackers, 1, images=job.scale.hacker_images)


def _train_step_of(network: str, batch: int, side: int, **hooks: Any) -> Callable[[], Callable[[], Any]]:
    """A step of a network, compiled where it is made."""

    def made() -> Callable[[], Any]:
        module, recipe, key = build(network, NUM_CLASSES), Recipe(batch_size=batch), jax.random.key(0)
        optimizer, x = recipe.build_optimizer(batch), jax.random.uniform(key, (batch, side, side, 3))
        state = initial_state(initial_variables(module, key, x.shape[1:]), optimizer)
        step = jax.jit(make_train_step(module, optimizer, recipe, **hooks))
        return lambda: step(state, Batch(x, jnp.arange(batch) % NUM_CLASSES), key)

    return made


def _descent(batch: int, side: int) -> Callable[[], Any]:
    module, key = build("cnn", NUM_CLASSES), jax.random.key(0)
    weights = initial_variables(module, key, (side, side, 3))
    gradient = make_gradient(
        lambda weights, key, x, y: error_minimising(jnp.asarray(module.apply(weights, x, train=False)), y)
    )
    x, y = jax.random.uniform(key, (batch, side, side, 3)), jnp.arange(batch) % NUM_CLASSES
    return lambda: descend(gradient, [weights], key, x, y, jnp.zeros_like(x), eps=0.03, step_size=0.003, steps=10)


def _epoch(batch: int, side: int) -> Callable[[], Any]:
    module, recipe, key = build("cnn", NUM_CLASSES), Recipe(batch_size=batch), jax.random.key(0)
    count = STEPS * batch
    optimizer, images = recipe.build_optimizer(count), jax.random.uniform(key, (count, side, side, 3))
    run = run_steps(on_resident(make_train_step(module, optimizer, recipe), batch))
    variables = initial_variables(module, key, images.shape[1:])
    labels, order = jnp.arange(count) % NUM_CLASSES, epoch_order(key, 0, count)

    def once() -> Any:
        state = jax.tree.map(jnp.array, initial_state(variables, optimizer))
        return run(state, images, labels, order, key, STEPS)

    return once


def _edited(batch: int, side: int) -> Callable[[], Any]:
    edit, x = jax.jit(rand_augment), jax.random.uniform(jax.random.key(0), (batch, side, side, 3))
    return lambda: edit(jax.random.key(1), x)


# What is written in another way for a processor: (batch, side) -> a function that makes what is timed.
WAYS: dict[str, Callable[[int, int], Callable[[], Any]]] = {
    "epoch of cnn, batch 32": lambda batch, side: _epoch(32, side),
    "depthwise convolutions: train step of mv2": lambda batch, side: _train_step_of("mv2", batch, side)(),
    "pointwise convolutions: train step of convmixer": lambda batch, side: _train_step_of("convmixer", batch, side)(),
    "rand-augment": _edited,
    "adversarial training": lambda batch, side: _train_step_of(
        "cnn", batch, side, adversary=functools.partial(pgd, eps=8 / 255, step_size=2 / 255, steps=10)
    )(),
    "PGD of baselines, 10 steps": _descent,
}


def crop_by_product(key: jax.Array, x: jax.Array, *, padding: int) -> jax.Array:
    """`random_crop` as products with one-hot matrices in place of a gather."""
    batch, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)
    rows = jax.nn.one_hot(corners[:, :1] + jnp.arange(height), padded.shape[1])
    columns = jax.nn.one_hot(corners[:, 1:] + jnp.arange(width), padded.shape[2])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bip,bjq,bpqc->bijc", rows, columns, padded, precision=highest)


def ways(job: Job) -> Iterator[dict[str, Any]]:
    """Each of them as for an accelerator and as for a processor, on this device; below 1 the first is the faster."""
    scale = job.scale
    batch, side = scale.batches[0], scale.side
    for name, made in WAYS.items():
        if scale.ways is not None and name not in scale.ways:
            continue
        taken = {}
        for platform in ("accelerator", "cpu"):
            with traced_for(platform):
                run = made(batch, side)
                jax.block_until_ready(run())
                taken[platform] = seconds(run, scale.repeats)
        yield _ratio(name, taken["accelerator"], taken["cpu"])
    x, key = jax.random.uniform(jax.random.key(0), (batch, side, side, 3)), jax.random.key(1)
    crops = {way: jax.jit(functools.partial(way, padding=4)) for way in (crop_by_product, random_crop)}
    for crop in crops.values():
        jax.block_until_ready(crop(key, x))
    by = {way: seconds(lambda crop=crop: crop(key, x), scale.repeats) for way, crop in crops.items()}
    yield _ratio("crops by a product beside a gather", by[crop_by_product], by[random_crop])
    if scale.ways is None:
        noisy = functools.partial(clip_and_noise, clip=1.0, noise=0.1)
        both = []
        for hooks in ({"aggregate": noisy}, {}):
            run = _train_step_of("cnn", batch, side, **hooks)()
            jax.block_until_ready(run())
            both.append(seconds(run, scale.repeats))
        yield _ratio("DP-SGD, example by example, beside the plain step of cnn", *both)


def _ratio(name: str, first: float, second: float) -> dict[str, Any]:
    return {"name": name, "seconds": first, "other_seconds": second, "ratio": first / second}
