"""Trainings on CIFAR-10 at the field's size: each is one row of a committed file and is done once."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.columns import control_of
from experiments.main_job import MainJob, Protected, protect
from experiments.tables import table_head, table_row
from ugejax import Evaluation, Source
from ugejax.app.cache import FolderCache, default_cache
from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.imitation import imitation_of
from ugejax.app.results import write_results
from ugejax.baselines import BASELINES, learnability_lock_linear
from ugejax.countermeasures import countermeasure_of
from ugejax.data import Dataset, load
from ugejax.evaluation.ensemble import Ensemble
from ugejax.evaluation.fitted import Fitted
from ugejax.evaluation.plan import plan
from ugejax.evaluation.trial import Trial
from ugejax.networks.weights import Weights, read_weights, write_weights
from ugejax.training import Recipe, default_recipe

# Raise it when a recipe, a method or a countermeasure changes what a row says: rows of before are then trained again;
# that of a parametrisation where its releases alone change. A test that trains at the smoke scale fails where that was
# forgotten.
VERSION = 1
VERSIONS = {"codes": 4}
RESULTS = Path("experiments/results/trainings.json")
# What has an authorized side: a network behind a secret view, and a lock that its key undoes.
LOCK = "learnability-lock-linear"
AUTHORIZED = ("uge", LOCK)


@dataclass(frozen=True)
class Training:
    """One network trained on one image set.

    Attributes:
        network: who trains.
        n_train: number of training images.
        n_test: number of test images.
        epochs: of the training.
        method: what protects the images: "originals" for nothing, "uge" for the method, or a baseline.
        settings: fields of the method's settings that are not the defaults.
        countermeasure: what the hacker does about it.
        role: "hacker" or "authorized": who has the key, or trains on what the lock's key makes of the release.
        knows: the method that a hacker knows who trains on originals, with its settings, for the control of one who
            makes pairs of his own; None where that does not matter.
        own: source of the images that he makes them of, or has trained on before; None takes the test images.
        seed: of the network, of the order and of what is drawn at random; the releases' keys have their own.
    """

    network: str
    n_train: int
    n_test: int
    epochs: int
    method: str = "originals"
    settings: Mapping[str, Any] = field(default_factory=dict)
    countermeasure: str = "none"
    role: str = "hacker"
    knows: Mapping[str, Any] | None = None
    own: str | None = None
    seed: int = 0

    @property
    def known(self) -> Mapping[str, Any]:
        """The method whose release is at hand, and its settings."""
        return self.knows or {"method": self.method, "settings": dict(self.settings)}

    @property
    def version(self) -> int:
        """Of what the row says."""
        return VERSIONS.get(self.known["settings"].get("parametrisation", ""), VERSION)

    @property
    def control(self) -> "Training":
        """The same on originals; what the method is does not matter there but to who knows it."""
        knows = self.known if countermeasure_of(self.countermeasure).knows_method else None
        same = control_of(self.countermeasure)
        return replace(self, method="originals", settings={}, countermeasure=same, role="hacker", knows=knows)

    @property
    def recipe(self) -> Recipe:
        """The network's own for so many epochs, with crops and flips where it does not shift and mirror by itself."""
        recipe = replace(default_recipe(self.network), epochs=self.epochs)
        moves = () if recipe.mirror else ("crop-flip",)
        others = (name for name in countermeasure_of(self.countermeasure).augment if name != "crop-flip")
        return replace(recipe, augment=(*moves, *others))

    @property
    def described(self) -> dict[str, Any]:
        """What a row is known by."""
        countermeasure = countermeasure_of(self.countermeasure)
        described = {
            "version": self.version, "network": self.network, "n_train": self.n_train, "n_test": self.n_test,
            "recipe": self.recipe.described, "method": self.method, "settings": dict(self.settings),
            "countermeasure": self.countermeasure, "role": self.role, "knows": self.knows, "seed": self.seed,
            "own": self.own if countermeasure.knows_method or countermeasure.pretrained else None,
        }  # fmt: skip
        return json.loads(json.dumps(described))

    @property
    def described_release(self) -> dict[str, Any]:
        """What the release is known by that it knows."""
        described = {"version": self.version, **self.known, "network": self.network, "n_train": self.n_train}
        return json.loads(json.dumps(described))


class Trainings:
    """The rows of a file, and where releases and what was begun lie.

    Attributes:
        rows: of trainings that are finished, as JSON.
        releases: what was measured of the releases, as JSON.
    """

    def __init__(self, results: Path, out: Path, source: str, data_dir: str | None):
        """Read the rows.

        Args:
            results: JSON file, which is written whole when a training ends.
            out: folder of the releases and of checkpoints.
            source: as for `ugejax protect`.
            data_dir: folder of prepared TFDS data sets.
        """
        self._results, self._out, self._source, self._data_dir = results, out, source, data_dir
        found = json.loads(results.read_text()) if results.exists() else {"rows": []}
        self.rows: list[dict[str, Any]] = found["rows"]
        self.releases: list[dict[str, Any]] = found.get("releases", [])
        self._last: dict[Path, Protected] = {}  # the one that the training before asked for

    def row(self, training: Training) -> dict[str, Any] | None:
        """The row of a training that is finished."""
        described = training.described
        return next((row for row in self.rows if all(row.get(k) == v for k, v in described.items())), None)

    def done(self, training: Training, report: Callable[[int, int, float], None] = lambda *_: None) -> dict[str, Any]:
        """The row of a training, which is begun, or gone on with, where there is none."""
        if (row := self.row(training)) is not None:
            self._note(training)
            return row
        released, cpu = self.release(training), time.process_time()
        source = training.described["own"]
        own = load(Source(source, self._data_dir)).train if source else None
        init = self.pretrained(training, own or released.test)
        trial = trial_of(training, released, own, init)
        begun = self._begun(training)
        if isinstance(trial, Fitted):
            score = trial.run_cached(FolderCache(default_cache()), report)
        else:
            score, _ = trial.run(report, StepCheckpoints(begun))
        row = training.described | {
            "last": score.last, "peak": score.peak, "relabelled": score.relabelled, "by_epoch": score.by_epoch,
            "seconds": round(score.seconds, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
            "backend": jax.default_backend(),
        }  # fmt: skip
        self.rows.append(row)
        self._write()
        if begun.exists():
            shutil.rmtree(begun)
        return row

    def release(self, training: Training) -> Protected:
        """Originals and what the training's method makes of them, in a folder of its own; made where it is missing."""
        known, folder = training.known, self.folder(training)
        if folder not in self._last:
            source = Source(self._source, self._data_dir, training.n_train, training.n_test)
            if known["method"] == "originals":
                splits = load(source)
                assert splits.test is not None
                protected = Protected(folder, splits.train, splits.test, splits.train.images, {})
            else:
                baseline = None if known["method"] == "uge" else known["method"]
                job = MainJob(
                    source, subset_seed=0, network=training.network, settings=known["settings"], baseline=baseline
                )
                made, began = not folder.exists(), time.perf_counter()
                protected = protect(job, folder)
                self._note(training, time.perf_counter() - began if made else None)
            self._last = {folder: protected}
        protected = self._last[folder]
        return replace(protected, released=protected.train.images) if training.method == "originals" else protected

    def folder(self, training: Training) -> Path:
        """Where the release lies that a training knows."""
        described = json.dumps([training.version, training.known, training.network, training.n_train], sort_keys=True)
        return self._out / f"{training.known['method']}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"

    def pretrained(self, training: Training, own: Dataset) -> Mapping[str, Weights]:
        """By its name the weights that a network begins with, which it was trained to on a hacker's own images.

        They are made where they are missing; there are none where the countermeasure wants none.
        """
        if not countermeasure_of(training.countermeasure).pretrained:
            return {}
        before = replace(training, method="originals", settings={}, countermeasure="none", knows=None)
        begun = self._begun(before, f"before {training.own}")
        file = begun.with_suffix(".safetensors")
        if not file.exists():
            scored = Dataset(own.images[: training.n_test], own.labels[: training.n_test], own.class_names)
            trial = trial_of(before, Protected(begun, own, scored, own.images, {}))
            assert isinstance(trial, Trial), "without countermeasure a network trains"
            _, variables = trial.run(snapshots=StepCheckpoints(begun))
            write_weights(begun / file.name, variables)
            (begun / file.name).replace(file)  # whole or not at all
            shutil.rmtree(begun)
        return {training.network: read_weights(file, training.network, own.images.shape[1:])}

    def _begun(self, training: Training, *more: str) -> Path:
        """Where a training is kept while it is under way."""
        described = " ".join([json.dumps(training.described, sort_keys=True), *more])
        return self._out / "trainings" / hashlib.sha256(described.encode()).hexdigest()[:16]

    def _note(self, training: Training, seconds: float | None = None) -> None:
        """Keep what the card of a release says was measured; nothing where it is known or the release is not there.

        Args:
            training: that knows it.
            seconds: that it took; None where nobody knows, since it was begun before.
        """
        described, file = training.described_release, self.folder(training) / "release" / "card.json"
        if any(all(one.get(k) == v for k, v in described.items()) for one in self.releases) or not file.exists():
            return
        card = json.loads(file.read_text())
        figures = {"eps": card["eps"], "norm": card["norm"], "linf": card["realised_eps"]["linf"]}
        figures |= {"psnr": card["psnr"]["mean"], "seconds": None if seconds is None else round(seconds, 1)}
        self.releases.append(described | figures)
        self._write()

    def _write(self) -> None:
        write_results(self._results, {"schema": 1, "rows": self.rows, "releases": self.releases})


def trial_of(
    training: Training, protected: Protected, own: Dataset | None = None, init: Mapping[str, Weights] | None = None
) -> Trial | Fitted:
    """The training of a network on a release, or on originals that stand for it; or what is fitted in its place.

    Args:
        training: what to train; an authorized network without a key sees the release as the lock's key undoes it.
        protected: the release that it knows, with what it trains on.
        own: a hacker's own images.
        init: weights that his networks begin with, by name.
    """
    classes = len((own or protected.train).class_names)
    imitation = imitation_of(protected.card, classes) if protected.card else None
    unlocks = training.role == "authorized" and training.method == LOCK
    evaluation = Evaluation(
        protected.train, unlocked(protected) if unlocks else protected.released, protected.test, protected.key,
        protected.network, hackers=(training.network,), countermeasures=(training.countermeasure,),
        epochs=training.epochs, seeds=(training.seed,), imitation=imitation, own=own, init=init or {},
    )  # fmt: skip
    row = next(
        row
        for row in plan(evaluation, FolderCache(default_cache()), lambda *_: None)
        if row.candidate.role == ("hacker" if unlocks else training.role)
    )
    trial = row.protected()
    assert not isinstance(trial, Ensemble), "a row is of one training"
    if isinstance(trial, Fitted):
        return trial
    return replace(trial, recipe=training.recipe, key=jax.random.key(training.seed))


def unlocked(protected: Protected) -> np.ndarray:
    """What who has the key of a linear lock makes of its release, uint8 [N, H, W, C].

    The key is learned again, as it was for the release.
    """
    card, originals = protected.card, protected.train
    key = learnability_lock_linear.learn(
        jax.random.key(card["seed"]), originals.images, originals.labels, len(originals.class_names), eps=card["eps"],
        settings=replace(BASELINES[LOCK].settings, **card["settings"]),
    )  # fmt: skip
    return learnability_lock_linear.unlock(key, protected.released, originals.labels)


# For an estimate: GFLOP of an image in a training step, counted as two a multiplication, and the share of the rate of
# this machine's matrix product that a step reaches on a CPU.
GFLOP = {"mlp": 0.01, "cnn": 0.044, "r20": 0.245, "speedrun": 0.27}
SHARE = {"mlp": 0.3, "cnn": 0.3, "r20": 0.5, "speedrun": 0.8}


def estimate(these: Iterable[Training], trainings: Trainings) -> None:
    """Print how long trainings would take that are not finished."""
    gflops, total, made = rate(), 0.0, set[Path]()
    print(f"matrix product: {gflops:.0f} GFLOP/s now\n")
    print(table_head("network", "images", "trained on", "countermeasure", "role", "hours"))
    for training in these:
        if trainings.row(training) is not None:
            continue
        folder = trainings.folder(training)
        if folder not in made and not folder.exists() and (taken := hours_of_making(training, gflops)):
            made.add(folder)
            total += taken
            print(table_row("", training.n_train, f"making {training.method}", "", "", f"{taken:.2f}"))
        total += (taken := hours(training, trainings.rows, gflops))
        cells = training.network, training.n_train, training.method, training.countermeasure, training.role
        print(table_row(*cells, f"{taken:.2f}"))
    print(f"\nin all {total:.1f} hours")


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


def hours(training: Training, rows: Sequence[Mapping[str, Any]], gflops: float) -> float:
    """Hours that a training takes: by finished ones of its network, else by its arithmetic at this machine's rate."""
    images = training.n_train * training.epochs * steps_of(training.countermeasure)
    known = [
        row["seconds"] / (row["n_train"] * row["recipe"]["epochs"] * steps_of(row["countermeasure"]))
        for row in rows
        if row["network"] == training.network
    ]
    seconds = float(np.median(known)) if known else GFLOP[training.network] / SHARE[training.network] / gflops
    return images * seconds / 3600


def steps_of(countermeasure: str) -> int:
    """Derivatives that a step of the training takes, those of an adversary's steps among them."""
    adversary = countermeasure_of(countermeasure).adversary
    return 1 + (adversary.keywords.get("steps", 0) if adversary else 0)


def hours_of_making(training: Training, gflops: float) -> float:
    """Hours that a release takes whose surrogate is trained, by its arithmetic; others take minutes: none.

    For each pass of a surrogate's training over the images, a derivative by the images takes 2/3 of that and an answer
    1/3.
    """
    if training.method not in MADE:
        return 0.0
    settings: Any = replace(BASELINES[training.method].settings, **training.settings)
    passes = training.n_train * MADE[training.method](settings, training.n_train)
    return passes * GFLOP[settings.surrogate] / SHARE[settings.surrogate] / gflops / 3600


# Passes of a surrogate's training that a release costs, of its settings and the number of images.
MADE: dict[str, Callable[[Any, int], float]] = {
    "tap": lambda of, n: of.epochs + 2 / 3 * of.pgd_steps,
    **dict.fromkeys(("dune", "dune-linf"), lambda of, n: of.epochs + 2 / 3 * of.pgd_steps * of.checkpoints),
    "em": lambda of, n: of.rounds * (of.train_steps * of.batch_size / n + 2 / 3 * of.pgd_steps + 1 / 3),
    LOCK: lambda of, n: of.rounds * (of.train_steps * of.batch_size / n + 2 / 3 * of.passes + 1 / 3),
}
