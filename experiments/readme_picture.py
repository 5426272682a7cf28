"""The picture of README: a few images, what the default method releases for them, and the amplified difference.

Command:
    python -m experiments.readme_picture --data-dir TFDS_FOLDER [--out docs/cifar10-images.png]

Time: seconds; nothing is trained.

Expect: five CIFAR-10 images at a size at which a person can compare the rows; the middle row differs by at most 8 grey
levels, which the last row shows 16 times as large around grey.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from ugejax import Protector, Source, load
from ugejax.app.report.pictures import amplified

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

CLASSES = ("horse", "dog", "frog", "ship", "truck")
LEVELS = 8  # of the budget; a difference of as many is black or white


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--source", default="cifar10", help="as for `ugejax protect` (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/cifar10-images.png"), help="default %(default)s")
    arguments = parser.parse_args()
    train = load(Source(arguments.source, arguments.data_dir, 100, 10)).train
    released = Protector(eps=LEVELS / 255, seed=0).fit(train.images, train.labels).transform(train.images)
    shown = [int(np.flatnonzero(train.labels == train.class_names.index(name))[0]) for name in CLASSES]
    draw(arguments.out, train.images[shown], released[shown])
    return 0


def draw(path: Path, originals: np.ndarray, released: np.ndarray) -> None:
    """Rows of originals, released images and differences, uint8 [N, H, W, 3], as a PNG file."""
    rows = {
        "original": originals,
        "released": released,
        f"difference x {128 // LEVELS}": amplified(originals, released, LEVELS),
    }
    figure, axes = plt.subplots(3, len(originals), figsize=(2 * len(originals) + 0.4, 6.1), layout="constrained")
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(title, fontsize=13)
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
