"""Releases made from the package's parts, for experiments that no main job fits, and their evaluation."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.scales import SCALES
from experiments.tables import figure, table_head, table_row
from ugejax.app.cache import FolderCache, default_cache
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection
from ugejax.authorized import AuthorizedNetwork, Key, draw_master, new_key
from ugejax.data import Dataset, Source, load
from ugejax.evaluation import Evaluation, evaluate, summarise
from ugejax.training import default_recipe
from ugejax.uge import Method
from ugejax.views import default_step

EPS = 8 / 255
COLUMNS = ("clean_accuracy", "protected_accuracy", "protected_peak_accuracy", "retention")


@dataclass(frozen=True)
class Job:
    """CIFAR-10, a key and its authorized network, as `ugejax protect cifar10 --seed 0` has them but for the salt."""

    train: Dataset
    test: Dataset
    key: Key
    network: AuthorizedNetwork
    epochs: int | None

    def protection(self, method: Method) -> Protection:
        """The main job with other settings."""
        return Protection.by(self.key, self.network, method)

    def evaluate(
        self, released: np.ndarray, folder: Path, *, hackers: Sequence[str], countermeasures: Sequence[str],
        authorized: bool = False,
    ) -> list[dict]:  # fmt: skip
        """Train hackers, and the authorized network if told, on both image sets; writes results.json."""
        evaluation = Evaluation(
            self.train, released, self.test, self.key if authorized else None,
            self.network if authorized else None, tuple(hackers), tuple(countermeasures), self.epochs,
        )  # fmt: skip
        rows, _ = evaluate(evaluation, FolderCache(default_cache()))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(json.dumps({"rows": rows, "summary": summarise(rows)}, indent=2) + "\n")
        return rows


def load_job(arguments: argparse.Namespace, *, form: str) -> Job:
    """The job at the arguments' scale."""
    scale = SCALES[arguments.scale]
    key = new_key(
        draw_master(0), form=form, network=scale.network, image_shape=(32, 32, 3), num_classes=10,
        step=default_step(form, EPS), recipe=default_recipe(scale.network), from_seed=True,
    )  # fmt: skip
    splits = load(Source("cifar10", arguments.data_dir, scale.n_train, scale.n_test, seed=key.public_seed))
    assert splits.test is not None, "CIFAR-10 has test images"
    network = build_authorized(key).of_release(key.release_salt("experiments"))
    return Job(splits.train, splits.test, key, network, scale.epochs)


def print_rows(name: str, rows: dict[str, list[dict]]) -> None:
    """A Markdown table of the rows of each variant."""
    who = (name, "role", "network", "countermeasure")
    print(table_head(*who, "on originals", "on the release", "peak", "share"))
    for variant, group in rows.items():
        for row in group:
            cells = [variant, row["role"].replace("_", " "), row["network"], row["countermeasure"]]
            print(table_row(*cells, *(figure(row[column]) for column in COLUMNS)))
