"""How well a small network tells classes by a perturbation in one minute, after each countermeasure.

Command:
    python -m experiments.detectability --data-dir TFDS_FOLDER [--candidates codes,stripes]
        [--countermeasures none,grey,class-means-oracle,jpeg-10] [--network cnn] [--scale search]

Time: some fifty seconds of two busy CPU cores a cell; a learned purifier was not timed.

Expect: of each cell two fractions, as READ / SEEN. READ: the accuracy on further released images, which the network
can only have from the perturbation where SEEN is low. SEEN: the accuracy on clean test images. A perturbation that
holds against a countermeasure is read and leaves nothing to be seen. It is a tool for design: what it ranks first is
then trained at the scale `search`, see experiments/search.py.

A third of a `speedrun` network's width trains on 4,000 images of CIFAR-10 for 8 epochs and is asked about 1,000 others.
Networks differ in what they read: with `--network` another one trains, with crops and flips, for as many epochs.
"""

import argparse
import functools
import json
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from experiments.scales import checked
from experiments.tables import table_head, table_row
from ugejax import Protector, Source
from ugejax.app.allocator import keep_freed_memory
from ugejax.app.imitation import imitation_of
from ugejax.app.protection import method_of
from ugejax.countermeasures import HackerData, countermeasure_of, parse_countermeasures
from ugejax.data import Dataset, load
from ugejax.evaluation.own_release import own_pairs
from ugejax.evaluation.trial import Trial
from ugejax.networks import NETWORKS, build
from ugejax.networks.classifier import Classifier
from ugejax.networks.speedrun import SpeedrunBody
from ugejax.training import accuracy, default_recipe
from ugejax.views import DEFAULT_FORM, default_step

CANDIDATES: dict[str, dict[str, Any]] = {
    "stripes": {"parametrisation": "class-wise"},
    "codes": {"parametrisation": "codes"},
    "strong": {"strength": "strong"},
}
COLUMNS = "none,grey,class-means-oracle,jpeg-10"


@dataclass(frozen=True)
class Scale:
    """Sizes of a cell.

    Attributes:
        n_train: released images that the network trains on.
        n_held: further ones that it is asked about.
        n_test: clean images that it is asked about.
        epochs: of its training.
        widths: of its three groups.
    """

    n_train: int
    n_held: int
    n_test: int
    epochs: int
    widths: tuple[int, int, int]


SCALES = {"search": Scale(4000, 1000, 1000, 8, (24, 48, 48)), "smoke": Scale(40, 20, 10, 1, (4, 4, 4))}


@functools.lru_cache(maxsize=1)
def released_by(settings: str, train: Dataset) -> np.ndarray:
    """The released images of a candidate, whose settings come as JSON."""
    return Protector(network="mlp", settings=json.loads(settings), seed=0).fit(train.images, train.labels).released_


def told(
    scale: Scale, settings: dict[str, Any], countermeasure: str, train: Dataset, test: Dataset, own: Dataset,
    network: str | None = None,
) -> tuple[float, float]:  # fmt: skip
    """READ and SEEN of a candidate after a countermeasure; `own` images are of a hacker who knows the method.

    The third of a `speedrun` network reads where no other network is named.
    """
    hacker = countermeasure_of(countermeasure)
    released = released_by(json.dumps(settings), train)
    held = hacker.originals_of(len(train.images), len(train.class_names))
    pairs = None
    if hacker.knows_method:
        method = method_of([DEFAULT_FORM], **settings)
        step = default_step(DEFAULT_FORM, method.eps)
        form = {"form": DEFAULT_FORM, "network": "mlp", "step": step}
        card = {"method": "uge", "eps": method.eps, "settings": method.described, "authorized": form}
        imitation = imitation_of(card, len(own.class_names))
        assert imitation is not None, "the card of a key's release"
        pairs = functools.partial(own_pairs, imitation, own, 0)
    data = HackerData(
        released, train.labels, test.images, reference=test.images, clean_images=train.images[:held],
        clean_indices=np.arange(held), own_pairs=pairs,
    )  # fmt: skip
    data = hacker.prepared(data)
    if network is None:
        module = Classifier(SpeedrunBody(scale.widths), len(train.class_names))
        recipe = replace(default_recipe("speedrun"), batch_size=250)
    else:
        module, recipe = build(network, len(train.class_names)), default_recipe(network)
        recipe = recipe if recipe.mirror else replace(recipe, augment=("crop-flip",))
    recipe = replace(recipe, epochs=scale.epochs)
    trained, others = slice(scale.n_train), slice(scale.n_train, None)
    trial = Trial(
        module, None, "all", recipe, data.images[trained], data.labels[trained], data.test_images, test.labels,
        jax.random.key(0),
    )  # fmt: skip
    score, variables = trial.run()
    read = accuracy(module, variables, data.images[others], data.labels[others], mirrored=recipe.mirrored_test)
    return read, score.last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--source", default="cifar10", help="as for `ugejax protect` (default %(default)s)")
    parser.add_argument("--own", default="cifar100", help="a hacker's own images, likewise (default %(default)s)")
    parser.add_argument("--candidates", default=",".join(CANDIDATES), help="comma-separated (default %(default)s)")
    parser.add_argument("--countermeasures", type=checked(parse_countermeasures), default=COLUMNS)
    parser.add_argument("--network", choices=sorted(NETWORKS), help="which reads in place of a third of `speedrun`")
    parser.add_argument("--scale", choices=list(SCALES), default="search")
    arguments = parser.parse_args()
    keep_freed_memory()
    scale = SCALES[arguments.scale]
    loaded = load(Source(arguments.source, arguments.data_dir, scale.n_train + scale.n_held, scale.n_test))
    assert loaded.test is not None
    own = load(Source(arguments.own, arguments.data_dir)).train
    print(table_head("candidate", *arguments.countermeasures))
    for name in arguments.candidates.split(","):
        cells = (
            "{:.2f} / {:.2f}".format(
                *told(scale, CANDIDATES[name], one, loaded.train, loaded.test, own, arguments.network)
            )
            for one in arguments.countermeasures
        )
        print(table_row(name, *cells), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
