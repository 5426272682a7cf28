"""Which network and number of images rank known methods as published? Trainings on CIFAR-10 that decide it.

Command:
    python -m experiments.calibration --data-dir TFDS_FOLDER --estimate
    python -m experiments.calibration --data-dir TFDS_FOLDER [--out runs/search]

Time: `--estimate` prints the hours that remain on this machine, by its own rate; some four hours of two idle CPU cores
for all 24 trainings and the six releases. What is finished is not done again: every training is a row of
experiments/results/trainings.json, written whole when it ends, and every release a folder in --out.

Expect: AR and TAP leave a ResNet-18 0.117 and 0.063 of all of CIFAR-10 (APBench). Where both leave a network at most 15
points more, while it learns the originals, methods are ranked as the field ranks them; the cheapest such network and
number of images is the scale at which everything is compared.

Rows, in the order in which they are worth their time. A network on a number of images is one question: its control and
AR and TAP answer it, in this order, and the default release, which the answer does not need, comes last. `speedrun` on
20,000 images is asked first, since it is the likeliest answer of ten minutes a training; then on 5,000, which tells the
number of images from the network; then `r20`, of which AR alone is known (0.141 of 0.566 on 5,000 images); `cnn`, which
is known to rank wrongly, comes last. So an early stop leaves whole questions answered.

Every row augments: `speedrun` shifts and mirrors by its recipe, the others crop and flip. Epochs are chosen such that
no training but that of `r20` on 20,000 images takes more than some ten minutes of two idle cores.
"""

from collections.abc import Iterator
from dataclasses import replace

from experiments.search import METHODS, SCALES, run, trainings_parser
from experiments.trainings import Training

ASKED = ("ar", "tap", "stripes")
# Network, number of images and epochs, by worth.
CELLS = (
    ("speedrun", 20000, 6), ("speedrun", 5000, 20), ("r20", 5000, 30), ("r20", 20000, 15), ("cnn", 20000, 15),
    ("cnn", 5000, 36),
)  # fmt: skip


def planned(scale: str) -> Iterator[Training]:
    """All trainings, by worth."""
    at = SCALES[scale]
    for network, n, epochs in CELLS if scale == "search" else ((at.network, at.n_train, at.epochs),):
        cell = replace(at, network=network, n_train=n, epochs=epochs)
        yield cell
        for name in ASKED:
            method, settings = METHODS[name]
            yield replace(cell, method=method, settings=settings)


def main() -> int:
    arguments = trainings_parser(__doc__).parse_args()
    return run(arguments, list(planned(arguments.scale)))


if __name__ == "__main__":
    raise SystemExit(main())
