"""How well a small network tells classes by a perturbation in one minute, after each countermeasure.

Command:
    python -m experiments.detectability --data-dir TFDS_FOLDER [--candidates codes,stripes]
        [--countermeasures none,grey,class-means-oracle,jpeg-10]

Time: some ten seconds of two idle CPU cores a cell, and half a minute more for a learned purifier.

Expect: of each cell two fractions, as READ / SEEN. READ: the accuracy on further released images, which the network
can only have from the perturbation where SEEN is low. SEEN: the accuracy on clean test images. A perturbation that
holds against a countermeasure is read and leaves nothing to be seen. It is a tool for design: what it ranks first is
then trained at the scale `search`, see experiments/search.py.

A third of a `speedrun` network's width trains on 4,000 images of CIFAR-10 for 8 epochs and is asked about 1,000 others.
"""

import argparse
import functools
import json
from dataclasses import replace
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
from ugejax.networks.classifier import Classifier
from ugejax.networks.speedrun import SpeedrunBody
from ugejax.training import accuracy, default_recipe
from ugejax.views import DEFAULT_FORM

CANDIDATES: dict[str, dict[str, Any]] = {
    "stripes": {},
    "codes": {"parametrisation": "codes"},
}
COLUMNS = "none,grey,class-means-oracle,jpeg-10"
N_TRAIN, N_HELD, N_TEST, EPOCHS = 4000, 1000, 1000, 8
WIDTHS = (24, 48, 48)


@functools.lru_cache
def released_by(settings: str, train: Dataset) -> np.ndarray:
    return Protector(network="mlp", settings=json.loads(settings), seed=0).fit(train.images, train.labels).released_


def told(settings: dict[str, Any], countermeasure: str, train: Dataset, test: Dataset, own: Dataset | None) -> str:
    """READ / SEEN of a candidate after a countermeasure."""
    hacker, step = countermeasure_of(countermeasure), 24
    released = released_by(json.dumps(settings), train)
    held = hacker.originals_of(len(train.images), len(train.class_names))
    pairs = None
    if hacker.knows_method:
        own = own or test
        card = {"method": "uge", "eps": 8 / 255, "settings": method_of([DEFAULT_FORM], **settings).described}
        form = {"form": DEFAULT_FORM, "network": "mlp", "step": step}
        imitation = imitation_of(card | {"authorized": form}, len(own.class_names))
        assert imitation is not None
        known = own_pairs(imitation, own, 0)
        pairs = lambda: known  # noqa: E731
    data = HackerData(
        released, train.labels, test.images, reference=test.images, clean_images=train.images[:held],
        clean_indices=np.arange(held), own_pairs=pairs,
    )  # fmt: skip
    data = hacker.prepared(data)
    module = Classifier(SpeedrunBody(WIDTHS), len(train.class_names))
    recipe = replace(default_recipe("speedrun"), epochs=EPOCHS, batch_size=250)
    trial = Trial(
        module, None, "all", recipe, data.images[:N_TRAIN], data.labels[:N_TRAIN], data.test_images, test.labels,
        jax.random.key(0),
    )  # fmt: skip
    score, variables = trial.run()
    read = accuracy(module, variables, data.images[N_TRAIN:], data.labels[N_TRAIN:], mirrored=True)
    return f"{read:.2f} / {score.last:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder of prepared TFDS data sets")
    parser.add_argument("--candidates", default=",".join(CANDIDATES), help="comma-separated (default %(default)s)")
    parser.add_argument("--countermeasures", type=checked(parse_countermeasures), default=COLUMNS)
    arguments = parser.parse_args()
    keep_freed_memory()
    loaded = load(Source("cifar10", arguments.data_dir, N_TRAIN + N_HELD, N_TEST))
    assert loaded.test is not None
    own = load(Source("cifar100", arguments.data_dir)).train
    print(table_head("candidate", *arguments.countermeasures))
    for name in arguments.candidates.split(","):
        cells = (
            told(CANDIDATES[name], countermeasure, loaded.train, loaded.test, own)
            for countermeasure in arguments.countermeasures
        )
        print(table_row(name, *cells), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
