"""At which network and how many images do known methods harm as published? Trainings on CIFAR-10 that settle it.

Command:
    python -m experiments.calibration --data-dir TFDS_FOLDER --estimate
    python -m experiments.calibration --data-dir TFDS_FOLDER [--out runs/calibration] [--scale field]
        [--results experiments/results/calibration.json]

Time: `--estimate` prints the hours that remain on this machine, by its own rate; some four hours of two idle CPU cores
for all 24 trainings and the six releases. What is finished is not done again: every training is a row of the results,
written whole when it ends, and every release a file in --out.

Expect: AR and TAP leave a ResNet-18 0.117 and 0.063 of all of CIFAR-10 (APBench). Where both leave a network at most 15
points more, while it learns the originals, methods are ranked as the field ranks them; the cheapest such network and
number of images is to be the scale at which everything is compared.

Rows, in the order in which they are worth their time. A network on a number of images is one question: its control and
AR and TAP answer it, in this order, and the default release, which the answer does not need, comes last. `speedrun` on
20,000 images is asked first, since it is the likeliest answer of ten minutes a training; then on 5,000, which tells the
number of images from the network; then `r20`, of which AR alone is known (0.141 of 0.566 on 5,000 images); `cnn`, which
is known to rank wrongly, comes last. So an early stop leaves whole questions answered.

Every row augments: `speedrun` shifts and mirrors by its recipe, the others crop and flip. Epochs are chosen such that
no training but that of `r20` on 20,000 images takes more than some ten minutes of two idle cores. TAP's surrogate is a
residual network, as in the field, and trains on all images of the release.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tables import table_head, table_row
from ugejax.allocator import keep_freed_memory
from ugejax.baselines.registry import BASELINES
from ugejax.data import Dataset, Source, load
from ugejax.evaluation import write_results
from ugejax.evaluation.trial import Trial
from ugejax.networks import build
from ugejax.protector import Protector
from ugejax.training import Recipe, default_recipe
from ugejax.whole import whole

# Raise it when a recipe or a method changes what a row says: rows of before are then trained again.
VERSION = 1
METHODS = ("originals", "ar", "tap", "uge")
# Network and number of images, by worth.
CELLS = (
    ("speedrun", 20000), ("speedrun", 5000), ("r20", 5000), ("r20", 20000), ("cnn", 20000), ("cnn", 5000),
)  # fmt: skip
EPOCHS = {
    ("speedrun", 20000): 6, ("speedrun", 5000): 20, ("r20", 5000): 30, ("r20", 20000): 15, ("cnn", 20000): 15,
    ("cnn", 5000): 36,
}  # fmt: skip
TAP_SURROGATE, TAP_EPOCHS = "r20", 15
# For an estimate: GFLOP of an image in a training step, counted as two a multiplication, and the share of the rate of
# this machine's matrix product that a step reaches on a CPU.
GFLOP = {"cnn": 0.044, "r20": 0.245, "speedrun": 0.27}
SHARE = {"cnn": 0.3, "r20": 0.5, "speedrun": 0.8}


@dataclass(frozen=True)
class Scale:
    """Sizes of a run.

    Attributes:
        cells: network, number of training images and epochs of each question.
        n_test: number of test images.
        tap: fields of TAP's settings.
    """

    cells: tuple[tuple[str, int, int], ...]
    n_test: int
    tap: dict[str, Any]


SCALES = {
    "field": Scale(
        tuple((*cell, EPOCHS[cell]) for cell in CELLS), 2000, {"surrogate": TAP_SURROGATE, "epochs": TAP_EPOCHS}
    ),
    "smoke": Scale((("mlp", 60, 1),), 30, {"surrogate": "mlp", "epochs": 1, "pgd_steps": 1}),
}


def recipe_of(network: str, epochs: int) -> Recipe:
    """The network's own, for so many epochs, with crops and flips where it has no shifts and mirrors of its own."""
    recipe = replace(default_recipe(network), epochs=epochs)
    return recipe if recipe.mirror else replace(recipe, augment=("crop-flip",))


def settings_of(network: str, n: int, epochs: int, method: str, scale: Scale) -> dict[str, Any]:
    """What a row is known by."""
    settings = {
        "version": VERSION, "network": network, "n_train": n, "n_test": scale.n_test, "method": method,
        "recipe": recipe_of(network, epochs).described, "tap": scale.tap if method == "tap" else None,
    }  # fmt: skip
    return json.loads(json.dumps(settings))


def planned(scale: Scale) -> Iterator[dict[str, Any]]:
    """The settings of all rows, by worth."""
    for network, n, epochs in scale.cells:
        for method in METHODS:
            yield settings_of(network, n, epochs, method, scale)


def is_row_of(row: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a finished row is that of these settings."""
    return all(row.get(name) == value for name, value in settings.items())


def release_of(method: str, train: Dataset, folder: Path, scale: Scale) -> np.ndarray:
    """The images that a method makes of the originals, uint8 [N, H, W, C]; read where they were made before."""
    if method == "originals":
        return train.images
    tap = "-".join(map(str, scale.tap.values())) if method == "tap" else ""
    file = folder / f"{method}{tap}-{len(train.images)}-v{VERSION}.npy"
    if not file.exists():
        if method == "uge":
            released = Protector(seed=0).fit(train.images, train.labels).released_
        else:
            baseline = BASELINES[method]
            settings = replace(baseline.settings, **(scale.tap if method == "tap" else {}))
            released = baseline.protect(
                jax.random.key(0), train.images, train.labels, len(train.class_names), settings=settings
            )
        with whole(file) as partial, partial.open("wb") as writable:
            np.save(writable, released)
    return np.load(file)


def trained(
    settings: dict[str, Any], images: np.ndarray, train: Dataset, test: Dataset, report: Callable[..., None]
) -> dict[str, Any]:
    """The row of a training."""
    network, recipe = settings["network"], settings["recipe"]
    recipe = Recipe(**recipe | {"augment": tuple(recipe["augment"])})
    module, cpu = build(network, len(train.class_names)), time.process_time()
    trial = Trial(module, None, "all", recipe, images, train.labels, test.images, test.labels, jax.random.key(0))
    score, _ = trial.run(report)
    return settings | {
        "last": score.last, "peak": score.peak, "by_epoch": score.by_epoch, "seconds": round(score.seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1), "backend": jax.default_backend(),
    }  # fmt: skip


def rate() -> float:
    """GFLOP a second of a product of two large matrices, the best of a few."""
    square, product = jnp.ones((2048, 2048)), jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        product(square, square).block_until_ready()
        taken.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(taken) / 1e9


def hours(settings: dict[str, Any], rows: list[dict[str, Any]], gflops: float) -> float:
    """Hours that a row takes: by finished ones of its network, else by its arithmetic at this machine's rate."""
    network, images = settings["network"], settings["n_train"] * settings["recipe"]["epochs"]
    known = [row["seconds"] / (row["n_train"] * row["recipe"]["epochs"]) for row in rows if row["network"] == network]
    seconds = float(np.median(known)) if known else GFLOP[network] / SHARE[network] / gflops
    return images * seconds / 3600


def hours_of_tap(n: int, epochs: int, steps: int, gflops: float) -> float:
    """Hours of a release by TAP: its surrogate's training, for each step a derivative by the images, 2/3 of that."""
    passes = n * (epochs + 2 / 3 * steps)
    return passes * GFLOP[TAP_SURROGATE] / SHARE[TAP_SURROGATE] / gflops / 3600


def estimate(scale: Scale, rows: list[dict[str, Any]], folder: Path) -> None:
    """Print how long what is not done would take."""
    gflops, total, made = rate(), 0.0, set()
    print(f"matrix product: {gflops:.0f} GFLOP/s now\n\n{table_head('network', 'images', 'trained on', 'hours')}")
    steps = scale.tap.get("pgd_steps", BASELINES["tap"].settings.pgd_steps)
    for settings in planned(scale):
        if any(is_row_of(row, settings) for row in rows):
            continue
        network, n, method = settings["network"], settings["n_train"], settings["method"]
        if method == "tap" and n not in made and not any(folder.glob(f"tap*-{n}-v{VERSION}.npy")):
            made.add(n)
            total += (taken := hours_of_tap(n, scale.tap["epochs"], steps, gflops))
            print(table_row("", n, "making tap", f"{taken:.2f}"))
        total += (taken := hours(settings, rows, gflops))
        print(table_row(network, n, method, f"{taken:.2f}"))
    print(f"\nin all {total:.1f} hours")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--source", default="cifar10", help="as for `ugejax protect` (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"), help="folder of the releases")
    parser.add_argument("--results", type=Path, default=Path("experiments/results/calibration.json"))
    parser.add_argument("--scale", choices=list(SCALES), default="field")
    parser.add_argument("--estimate", action="store_true", help="print the hours that remain, and train nothing")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    rows = json.loads(arguments.results.read_text())["rows"] if arguments.results.exists() else []
    if arguments.estimate:
        estimate(scale, rows, arguments.out)
        return 0
    keep_freed_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(table_head("network", "images", "trained on", "last", "peak", "seconds"))
    splits: dict[int, tuple[Dataset, Dataset]] = {}
    for settings in planned(scale):
        row = next((row for row in rows if is_row_of(row, settings)), None)
        if row is None:
            n = settings["n_train"]
            if n not in splits:
                loaded = load(Source(arguments.source, arguments.data_dir, n, scale.n_test))
                assert loaded.test is not None
                splits[n] = loaded.train, loaded.test
            train, test = splits[n]
            images = release_of(settings["method"], train, arguments.out, scale)
            row = trained(settings, images, train, test, lambda *_: None)
            rows.append(row)
            write_results(arguments.results, {"schema": 1, "rows": rows})
        told = (
            row["network"],
            row["n_train"],
            row["method"],
            f"{row['last']:.3f}",
            f"{row['peak']:.3f}",
            row["seconds"],
        )
        print(table_row(*told), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
