"""Whole trainings and protections on this device: scores in bfloat16 beside float32, the full size, the demo.

It tests the commands themselves where it runs the demo.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.accelerator.scale import Job
from experiments.measured import measured
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection
from ugejax.authorized import draw_master, new_key
from ugejax.compiler import training_dtype
from ugejax.data import Dataset, Source, load
from ugejax.evaluation.trial import Trial
from ugejax.networks import build, initial_variables
from ugejax.training import accuracy, default_recipe, fit, initial_state, make_train_step, prepared
from ugejax.uge import Method
from ugejax.views import DEFAULT_FORM, default_step


def peak_bytes() -> int | None:
    """The most that a device has held since the process began; None where it does not tell."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def images_of(job: Job) -> tuple[Dataset, Dataset]:
    """CIFAR-10, or random images of its shape where it is not at hand."""
    n_train, n_test = job.scale.images
    if job.data_dir is not None:
        splits = load(Source("cifar10", job.data_dir, n_train, n_test, seed=0))
        assert splits.test is not None, "CIFAR-10 has test images"
        return splits.train, splits.test
    rng, names = np.random.default_rng(0), tuple(map(str, range(10)))

    def random(n: int) -> Dataset:
        return Dataset(
            rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), (np.arange(n) % 10).astype(np.int32), names
        )

    return random(n_train), random(n_test)


def bfloat16(job: Job) -> Iterator[dict[str, Any]]:
    """The same trainings of the handwritten digits in float32 and in bfloat16, by the loop of every training."""
    n_train, n_test = (None, None) if job.scale.demo else job.scale.images
    splits = load(Source("digits", None, n_train, n_test, seed=0))
    assert splits.test is not None, "a fifth of the digits is held out"
    train, test = splits.train, splits.test
    for network in job.scale.networks:
        for seed in range(3 if job.scale.demo else 1):
            found = {"network": network, "seed": seed}
            for name, dtype in (("float32", None), ("bfloat16", jnp.bfloat16)):
                module, recipe = build(network, 10), default_recipe(network, epochs=5 if job.scale.demo else 1)
                optimizer, key = recipe.build_optimizer(len(train.images)), jax.random.key(seed)
                variables = prepared(module, initial_variables(module, key, train.images.shape[1:]), train.images)
                step = make_train_step(module, optimizer, recipe, dtype=dtype)
                began = time.perf_counter()
                arrays = jnp.asarray(train.images), jnp.asarray(train.labels)
                state = fit(step, initial_state(variables, optimizer), *arrays, recipe, key)
                found[f"{name}_seconds"] = time.perf_counter() - began
                found[f"{name}_accuracy"] = accuracy(module, state.variables, test.images, test.labels)
            yield found


def full_size(job: Job) -> Iterator[dict[str, Any]]:
    """Protect by the default form, train a hacker on the release and on the originals, by each network's own recipe."""
    train, test = images_of(job)
    common = {"images": len(train.images), "data": "cifar10" if job.data_dir else "random"}
    for network, epochs in job.scale.whole:
        key = new_key(
            draw_master(0), form=DEFAULT_FORM, network=network, image_shape=(32, 32, 3), num_classes=10,
            step=default_step(DEFAULT_FORM, Method.eps), recipe=default_recipe(network), from_seed=True,
        )  # fmt: skip
        own = build_authorized(key).of_release(key.release_salt("accelerator"))
        began = time.perf_counter()
        released = Protection.by(key, own, Method()).run(train.images, train.labels, job.out / f"protection-{network}")
        protect_seconds = time.perf_counter() - began
        augment = () if default_recipe(network).mirror else ("crop-flip",)
        recipe = default_recipe(network, epochs=epochs, augment=augment)
        for name, images in (("release", released), ("originals", train.images)):
            trial = Trial(
                build(network, 10), None, "all", recipe, images, train.labels, test.images, test.labels,
                jax.random.key(1),
            )  # fmt: skip
            score, _ = trial.run()
            steps = recipe.epochs * recipe.steps_per_epoch(len(images))
            yield {
                **common, "network": network, "trained_on": name, "epochs": recipe.epochs, "accuracy": score.last,
                "peak_accuracy": score.peak, "dtype": str(jnp.dtype(training_dtype() or jnp.float32)),
                "protect_seconds": protect_seconds, "train_seconds": score.seconds,
                "images_per_second": steps * recipe.batch_size / score.seconds, "peak_bytes": peak_bytes(),
            }  # fmt: skip


def matched(job: Job) -> Iterator[dict[str, Any]]:
    """Protect a tenth of the images by gradient matching, the most expensive way: a trajectory, an epoch of updates."""
    train, _ = images_of(job)
    images, labels = (array[: max(64, len(train.images) // 10)] for array in (train.images, train.labels))
    for network, _ in job.scale.whole:
        key = new_key(
            draw_master(0), form="plain", network=network, image_shape=(32, 32, 3), num_classes=10, step=None,
            recipe=default_recipe(network, epochs=2), from_seed=True,
        )  # fmt: skip
        own = build_authorized(key).of_release(key.release_salt("accelerator"))
        method = Method(epochs=1, snapshots=2, batch_size=min(128, len(images)), surrogates=(network,))
        began, stages = time.perf_counter(), {}

        def report(stage: str, done: int, of: int, figures: Any, began: float = began, stages: Any = stages) -> None:
            stages[stage] = time.perf_counter() - began

        Protection.by(key, own, method).run(images, labels, job.out / f"matched-{network}", report)
        yield {"network": network, "images": len(images), "seconds_until": stages, "peak_bytes": peak_bytes()}


def demo(job: Job) -> Iterator[dict[str, Any]]:
    """`ugejax demo`, in a process of its own, with nothing kept from before."""
    if job.scale.demo:
        yield measured(["ugejax", "demo", "--out", str(job.out / "demo"), "--cache", str(job.out / "demo-cache")])


Stage = Callable[[Job], Iterator[dict[str, Any]]]
