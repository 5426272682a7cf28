"""Hackers of one architecture trained together beside the same hackers one after the other: which way by backend.

Command:
    python -m experiments.bench.together [--out runs/bench-together] [--networks cnn,mlp,res-tiny] [--count 8]
        [--repeats 3]

Time: a quarter of an hour of one CPU core.

Expect (table in docs/results): on a CPU together takes twice the time for networks of convolutions, and 0.92 of it
for the perceptron. No figures of an accelerator yet; there `ugejax evaluate` trains together, here one after the other.

A hacker is a trial of the evaluation: its own weights, images, order, and augmentation by crops and flips, for two
epochs of 1,000 random images, scored after each on 500 others. Both ways have compiled before they are timed, in turn;
a ratio below 1 says that together is faster. Seconds are the processor's on a CPU and the clock's elsewhere.
"""

import argparse
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

from experiments.bench.worker import clocked
from experiments.tables import table_head, table_row
from ugejax.app.allocator import keep_freed_memory
from ugejax.evaluation.together import run_together
from ugejax.evaluation.trial import Trial
from ugejax.networks import build
from ugejax.training import default_recipe

EPOCHS, IMAGES, TEST_IMAGES, NUM_CLASSES = 2, 1000, 500, 10


def hackers(network: str, count: int, images: int) -> list[Trial]:
    """As many trials of an architecture, half of them on either of two image sets."""
    rng = np.random.default_rng(0)
    *sets, test = (
        (rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, NUM_CLASSES, n).astype(np.int32))
        for n in (images, images, TEST_IMAGES)
    )
    module, recipe = build(network, NUM_CLASSES), default_recipe(network, epochs=EPOCHS, augment=("crop-flip",))
    return [Trial(module, None, "all", recipe, *sets[i % 2], *test, jax.random.key(i)) for i in range(count)]


def row(network: str, count: int, repeats: int, *, images: int = IMAGES) -> dict:
    """Seconds of both ways, medians, and the median of the ratios of neighbours."""
    trials, clock = hackers(network, count, images), int(jax.default_backend() == "cpu")
    ways = {"together": lambda: run_together(trials), "alone": lambda: [trial.run() for trial in trials]}
    rounds = [{way: clocked(run)[clock] for way, run in ways.items()} for _ in range(repeats + 1)]
    taken = {way: np.array([times[way] for times in rounds[1:]]) for way in ways}  # the first round compiles
    medians = {f"{way}_seconds": float(np.median(seconds)) for way, seconds in taken.items()}
    ratio = float(np.median(taken["together"] / taken["alone"]))
    return {
        "network": network, "count": count, "repeats": repeats, "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind, **medians, "ratio": ratio,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-together"), help="folder for results.json")
    parser.add_argument("--networks", default="cnn,mlp,res-tiny", help="comma-separated (default %(default)s)")
    parser.add_argument("--count", type=int, default=8, help="hackers (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as programs:  # as the command line keeps them for its next start
        jax.config.update("jax_compilation_cache_dir", programs)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        compare(arguments.networks.split(","), arguments.count, arguments.repeats, arguments.out)
    return 0


def compare(networks: list[str], count: int, repeats: int, out: Path) -> None:
    """Print a row for each network, and leave them in the folder."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(table_head("network", "hackers", "backend", "one after the other, s", "together, s", "ratio"))
    for network in networks:
        rows.append(found := row(network, count, repeats, images=IMAGES))
        figures = [f"{found['alone_seconds']:.1f}", f"{found['together_seconds']:.1f}", f"{found['ratio']:.2f}"]
        print(table_row(network, count, found["backend"], *figures), flush=True)
        (out / "results.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
