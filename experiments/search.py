"""Methods beside each other on CIFAR-10, at the scale `search` or `field`: a `speedrun` network as every hacker.

Command:
    python -m experiments.search --data-dir TFDS_FOLDER --estimate [--scale field]
    python -m experiments.search --data-dir TFDS_FOLDER [--scale field] [--seeds 1] [--out runs/search]
    python -m experiments.search --data-dir TFDS_FOLDER [--methods codes,stripes] [--countermeasures field,coin]

Time: at `search`, 20,000 images and 6 epochs, some seven minutes of two idle CPU cores a training; at `field`, all
50,000 and 11 epochs, some half an hour. `--estimate` prints the hours that remain. What is finished is not done again,
and a training that was cut off goes on from its last epoch: every training is a row of
experiments/results/trainings.json, written when it ends, and so is what was measured of every release.

Expect: at `search` of clean images 0.867, of grey ones 0.836; of AR 0.116, where APBench has 0.117 for a ResNet-18 on
all images. The other cells are in docs/results/trainings.md.

Without `--methods` and `--countermeasures` the plan of the scale is done, see `PLANS`; otherwise all methods or those
that are named, against the columns that published tables have or those that are named. A countermeasure may be a group:
`field`, the columns of published tables, or `today`, other hackers (experiments/columns.py).

Trainings go countermeasure by countermeasure, each method before the control that they share, so that an early stop
leaves whole columns. Who is authorized trains on every release with a key, after the hackers without countermeasure.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.columns import FIELD, TODAY, parse_columns
from experiments.scales import checked
from experiments.tables import table_head, table_row
from experiments.trainings import AUTHORIZED, LOCK, RESULTS, Training, Trainings, estimate
from ugejax import UserError
from ugejax.app.allocator import keep_freed_memory
from ugejax.registry import split_names

# The texture under codes, optimised for one pass.
OPTIMISED: dict[str, Any] = {"epochs": 1, "surrogates": ["cnn"], "transforms": ["crop-flip", "grey", "jpeg-10"]}
# What is compared, by worth: a method, and those of its settings that are not the defaults. A surrogate is a residual
# network, as in the field, and trains on all images of the release.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "codes": ("uge", {"parametrisation": "codes"}),
    "stripes": ("uge", {"parametrisation": "class-wise"}),
    "strong": ("uge", {"strength": "strong"}),
    "codes-optimised": ("uge", {"parametrisation": "codes", **OPTIMISED}),
    "ar": ("ar", {}),
    "tap": ("tap", {"surrogate": "r20", "epochs": 15}),
    "lsp": ("lsp", {}),
    "ops": ("ops", {}),
    "lock": (LOCK, {}),
    "em": ("em", {"surrogate": "r20"}),
    "dune": ("dune", {"surrogate": "r20"}),
    "dune-linf": ("dune-linf", {"surrogate": "r20"}),
}
SCALES = {
    "search": Training("speedrun", n_train=20000, n_test=2000, epochs=6, own="cifar100"),
    "field": Training("speedrun", n_train=50000, n_test=10000, epochs=11, own="cifar100"),
    "smoke": Training("mlp", n_train=60, n_test=30, epochs=1),
}
Block = tuple[Sequence[str], Sequence[str]]
# Methods by countermeasures, one block after the other.
PLANS: dict[str, Sequence[Block]] = {
    "search": ((tuple(METHODS), FIELD), (("codes", "stripes", "ar", "tap"), TODAY)),
    "field": ((("codes", "stripes", "tap", "lsp", "ar"), ("none", "grey", "jpeg-10", "class-means")),),
    "smoke": ((("codes", "lsp"), ("none", "grey")),),
}


def planned(at: Training, blocks: Iterable[Block], seeds: int) -> Iterator[Training]:
    """The trainings of tables in the order in which they are worth their time; a shared control comes once."""
    seen = []
    for seed in range(seeds):
        for methods, countermeasures in blocks:
            for countermeasure in countermeasures:
                these = [
                    replace(at, method=method, settings=settings, countermeasure=countermeasure, seed=seed)
                    for method, settings in map(METHODS.__getitem__, methods)
                ]
                partners = [replace(one, role="authorized") for one in these if one.method in AUTHORIZED]
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
    parser.add_argument("--methods", type=checked(parse_methods), help=f"comma-separated, of {', '.join(METHODS)}")
    parser.add_argument(
        "--countermeasures", type=checked(parse_columns), help="comma-separated; see `ugejax list`; field and today"
    )
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    blocks = PLANS[arguments.scale]
    if arguments.methods or arguments.countermeasures:
        blocks = ((arguments.methods or tuple(METHODS), arguments.countermeasures or FIELD),)
    return run(arguments, list(planned(SCALES[arguments.scale], blocks, arguments.seeds)))


if __name__ == "__main__":
    raise SystemExit(main())
