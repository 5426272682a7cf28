"""Methods beside each other at the scale `search`: a `speedrun` network of 6 epochs on 20,000 images of CIFAR-10.

Command:
    python -m experiments.search --data-dir TFDS_FOLDER --estimate
    python -m experiments.search --data-dir TFDS_FOLDER [--methods codes,stripes] [--countermeasures none,grey]
        [--seeds 1] [--out runs/search]

Time: some seven minutes of two idle CPU cores a training; `--estimate` prints the hours that remain. What is finished
is not done again, and a training that was cut off goes on from its last epoch: every training is a row of
experiments/results/trainings.json, written when it ends.

Expect: of clean images 0.867, of grey ones 0.836; of AR 0.116, where APBench has 0.117 for a ResNet-18 on all images.
The other cells are in docs/results/trainings.md.

Trainings go countermeasure by countermeasure, each method before the control that they share, so that an early stop
leaves whole columns. The authorized network trains on every release with a key, after the hackers without
countermeasure.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.scales import checked
from experiments.tables import table_head, table_row
from experiments.trainings import RESULTS, Training, Trainings, estimate
from ugejax import UserError
from ugejax.app.allocator import keep_freed_memory
from ugejax.countermeasures import parse_countermeasures
from ugejax.registry import split_names

# What is compared: a method, and those of its settings that are not the defaults.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "stripes": ("uge", {}),
    "codes": ("uge", {"parametrisation": "codes"}),
    "ar": ("ar", {}),
    # Its surrogate is a residual network, as in the field, and trains on all images of the release.
    "tap": ("tap", {"surrogate": "r20", "epochs": 15}),
    "lsp": ("lsp", {}),
    "ops": ("ops", {}),
}
COLUMNS = "none,grey,class-means-oracle,jpeg-10,learned-purifier"
SCALES = {
    "search": Training("speedrun", n_train=20000, n_test=2000, epochs=6, own="cifar100"),
    "smoke": Training("mlp", n_train=60, n_test=30, epochs=1),
}


def planned(at: Training, methods: Sequence[str], countermeasures: Sequence[str], seeds: int) -> Iterator[Training]:
    """The trainings of a table in the order in which they are worth their time; a shared control comes once."""
    seen = []
    for seed in range(seeds):
        for countermeasure in countermeasures:
            these = [
                replace(at, method=method, settings=settings, countermeasure=countermeasure, seed=seed)
                for method, settings in map(METHODS.__getitem__, methods)
            ]
            partners = [replace(one, role="authorized") for one in these if one.method == "uge"]
            controls = [one.control for one in these]
            for one in [*these, *controls, *(partners if countermeasure == "none" else [])]:
                if one not in seen:
                    seen.append(one)
                    yield one


def parse_methods(names: str) -> tuple[str, ...]:
    """A comma-separated list of names in `METHODS`, checked."""
    chosen = split_names(names)
    if unknown := [name for name in chosen if name not in METHODS]:
        raise UserError(f"{', '.join(unknown)}: choose from {', '.join(METHODS)}")
    return chosen


def trainings_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of an experiment that is a list of trainings."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--source", default="cifar10", help="as for `ugejax protect` (default %(default)s)")
    parser.add_argument("--scale", choices=list(SCALES), default="search")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), help="folder of releases and checkpoints")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default %(default)s")
    parser.add_argument("--estimate", action="store_true", help="print the hours that remain, and train nothing")
    return parser


def run(arguments: argparse.Namespace, planned: Sequence[Training]) -> int:
    """Do trainings in their order and print a row of each; with --estimate, print how long they would take."""
    keep_freed_memory()
    trainings = Trainings(arguments.results, arguments.out, arguments.source, arguments.data_dir)
    if arguments.estimate:
        estimate(planned, trainings)
        return 0
    print(table_head("network", "images", "trained on", "settings", "role", "countermeasure", "seed", "last", "peak"))
    for training in planned:
        row = trainings.done(training)
        settings = " ".join(f"{name}={value}" for name, value in row["settings"].items())
        cells = row["network"], row["n_train"], row["method"], settings, row["role"], row["countermeasure"]
        print(table_row(*cells, row["seed"], f"{row['last']:.3f}", f"{row['peak']:.3f}"), flush=True)
    return 0


def main() -> int:
    parser = trainings_parser(__doc__)
    parser.add_argument("--methods", type=checked(parse_methods), default=("codes", "stripes"))
    parser.add_argument("--countermeasures", type=checked(parse_countermeasures), default=COLUMNS)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    at = SCALES[arguments.scale]
    return run(arguments, list(planned(at, arguments.methods, arguments.countermeasures, arguments.seeds)))


if __name__ == "__main__":
    raise SystemExit(main())
