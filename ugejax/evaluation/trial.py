"""One trial: a network trained on one image set and scored on clean test images; cached by what determines it."""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flax
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.compiler import training_dtype
from ugejax.countermeasures.last_layer import fit_last_layer
from ugejax.countermeasures.recovery import near
from ugejax.evaluation.cache import Cache
from ugejax.evaluation.relabel import relabelled
from ugejax.networks import initial_variables
from ugejax.training import Recipe, accuracy, fit, initial_state, make_train_step, outputs, prepared
from ugejax.training.step import TrainState, freeze
from ugejax.training.trajectory import Snapshots


@dataclass(frozen=True)
class Score:
    """What a trial found.

    Attributes:
        by_epoch: clean-test accuracy after each epoch, fractions.
        seconds: wall-clock time that training and scoring took; an equal share of it for networks trained together.
        relabelled: at the end, under the best map of answers to classes, see `relabelled_accuracy`; None where nobody
            looked.
    """

    by_epoch: list[float]
    seconds: float
    relabelled: float | None = None

    @property
    def last(self) -> float:
        """Accuracy after the last epoch."""
        return self.by_epoch[-1]

    @property
    def peak(self) -> float:
        """Best accuracy over the epochs: what early stopping on clean images would have got."""
        return max(self.by_epoch)


@dataclass(frozen=True, eq=False)
class Phase:
    """Training on one image set.

    Attributes:
        images: training images, uint8 or float32 [N, H, W, C].
        labels: int32 [N], or soft float32 [N, K].
        trains: which weights: "all", "head", or "near": all, in a ball around those it begins with, see
            `ugejax.countermeasures.recovery`. The head of a phase that follows another is fitted to convergence.
    """

    images: np.ndarray
    labels: np.ndarray
    trains: str


@flax.struct.dataclass
class _Snapshot:
    """A training between epochs: the state of its phase, int32 [epochs] of right answers after each, and its time."""

    state: TrainState
    correct: Any
    seconds: Any


@dataclass(frozen=True, eq=False)
class Trial:
    """A network, its images and its recipe.

    Attributes:
        module: flax network.
        variables: initial variables; None draws them from the key.
        trains: "all" or "head".
        recipe: how it is trained.
        images: training images, uint8 or float32 [N, H, W, C].
        labels: int32 [N], or soft float32 [N, K].
        test_images: as the network shall see them.
        test_labels: int32 [M].
        key: PRNG key of initialisation (where needed), order and augmentation.
        then: phases of fine-tuning that follow: of all weights by the whole recipe with an optimizer of its own, of the
            head by `fit_last_layer`.
        adversary: replaces the batches of the first phase, see `make_train_step`; with its keyword arguments.
        aggregate: makes the gradients of the first phase, likewise.
    """

    module: Any
    variables: Any
    trains: str
    recipe: Recipe
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    key: jax.Array
    then: tuple[Phase, ...] = ()
    adversary: functools.partial | None = None
    aggregate: functools.partial | None = None

    @property
    def epochs(self) -> int:
        """Epochs of all phases together; a head that is fitted counts as one."""
        return epochs_of(self.recipe, *(phase.trains for phase in self.then))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The first phase and those that follow."""
        return Phase(self.images, self.labels, self.trains), *self.then

    @property
    def described(self) -> str:
        """JSON of everything that determines the score but the arrays."""
        described = {
            "environment": environment(),
            "module": repr(self.module),
            "recipe": asdict(self.recipe),
            "trains": [phase.trains for phase in self.phases],
            # A function's own repr holds its address.
            "hooks": [hook and [hook.func.__qualname__, hook.keywords] for hook in (self.adversary, self.aggregate)],
        }
        return json.dumps(described, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that determines the score, the code of the package and the backend among it."""
        arrays = [array for phase in self.phases for array in (phase.images, phase.labels)]
        arrays += [self.test_images, self.test_labels, jax.random.key_data(self.key)]
        return digest_of(self.described, [*arrays, *jax.tree.leaves(self.variables)])

    def start(self) -> tuple[Any, jax.Array]:
        """The variables before the first step, and the PRNG key of order and augmentation."""
        init_key, train_key = jax.random.split(self.key)
        variables = self.variables
        if variables is None:
            variables = initial_variables(self.module, init_key, self.images.shape[1:])
        return prepared(self.module, variables, self.images), train_key

    def make_step(self, number: int = 0) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
        """Optimizer and training step of the phase of that number; the hooks are those of the first alone."""
        phase = self.phases[number]
        optimizer = self.recipe.build_optimizer(len(phase.images))
        optimizer = near(optimizer) if phase.trains == "near" else freeze(optimizer, phase.trains)
        step = make_train_step(
            self.module, optimizer, self.recipe, train_mode=phase.trains != "head",
            adversary=None if number else self.adversary, aggregate=None if number else self.aggregate,
            dtype=training_dtype(),
        )  # fmt: skip
        return optimizer, step

    def run(
        self,
        report: Callable[[int, int, float], None] = lambda epoch, epochs, accuracy: None,
        snapshots: Snapshots | None = None,
    ) -> tuple[Score, Any]:
        """Train and score.

        Args:
            report: called after every epoch with its number, the number of epochs and the accuracy.
            snapshots: where the training is kept after every epoch, so that one that was cut off goes on from its last
                whole epoch; None keeps nothing. It must hold snapshots of this very trial alone.

        Returns:
            The score and the trained variables.
        """
        began, by_epoch = time.perf_counter(), []
        variables, train_key = self.start()
        test_images = jnp.asarray(self.test_images)
        scored = functools.partial(accuracy, self.module, mirrored=self.recipe.mirrored_test)
        done = max(snapshots.steps(), default=0) if snapshots else 0

        def score(epoch, state, loss):
            by_epoch.append(scored(state.variables, test_images, self.test_labels))
            report(len(by_epoch), self.epochs, by_epoch[-1])
            if snapshots:
                snapshots.save(len(by_epoch), self._snapshot(state, by_epoch, time.perf_counter() - began))

        first = 0  # epochs before a phase
        for number, phase in enumerate(self.phases):
            fits_head = bool(number) and phase.trains == "head"
            last = first + (1 if fits_head else self.recipe.epochs)
            before, first = first, last
            if done > last:  # what it led to is in the snapshot
                continue
            if fits_head:
                params, labels = variables["params"], np.asarray(phase.labels)
                features = outputs(self.module, variables, phase.images, "features")
                head = fit_last_layer(features, labels, params["head"]["bias"].shape[0])
                variables = {**variables, "params": {**params, "head": head}}
                by_epoch.append(scored(variables, test_images, self.test_labels))
                report(len(by_epoch), self.epochs, by_epoch[-1])
                continue
            optimizer, step = self.make_step(number)
            state = initial_state(variables, optimizer)
            if snapshots and before < done:
                kept = snapshots.restore(done, self._snapshot(state, [], 0.0))
                state, began = kept.state, began - float(kept.seconds)
                by_epoch = [int(correct) / len(self.test_labels) for correct in kept.correct[:done]]
            state = fit(
                step, state, jnp.asarray(phase.images), jnp.asarray(phase.labels), self.recipe,
                jax.random.fold_in(train_key, number) if number else train_key, after_epoch=score,
            )  # fmt: skip
            variables = state.variables
        best = relabelled(
            self.module, variables, self.test_images, self.test_labels, mirrored=self.recipe.mirrored_test
        )
        return Score(by_epoch, time.perf_counter() - began, best), variables

    def _snapshot(self, state: TrainState, by_epoch: list[float], seconds: float) -> "_Snapshot":
        correct = np.zeros(self.epochs, np.int32)
        correct[: len(by_epoch)] = np.rint(np.array(by_epoch) * len(self.test_labels))
        return _Snapshot(state, correct, np.float32(seconds))

    def cached(self, cache: Cache) -> Score | None:
        """The score, if this very trial is in the cache."""
        return cached_score(cache, self.digest)

    def run_cached(self, cache: Cache, report: Callable[[int, int, float], None]) -> Score:
        """The score, from the cache if this very trial is in it; a training that was cut off goes on from there."""
        digest = self.digest
        if (score := cached_score(cache, digest)) is not None:
            return score
        with cache.under_way(digest) as snapshots:
            score, _ = self.run(report, snapshots)
            keep_score(cache, digest, score)
        return score

    def keep(self, cache: Cache, score: Score) -> None:
        """Put the score into the cache."""
        keep_score(cache, self.digest, score)


def cached_score(cache: Cache, digest: str) -> Score | None:
    """The score of that digest, if it is in the cache."""
    try:
        return Score(**json.loads(cache.read(f"{digest}.json") or b""))
    except (ValueError, TypeError):
        return None  # not there, or damaged


def keep_score(cache: Cache, digest: str, score: Score) -> None:
    """Put a score into the cache."""
    cache.write(f"{digest}.json", json.dumps(asdict(score)).encode())


def digest_of(described: str, arrays: Iterable[Any]) -> str:
    """SHA-256 over what is described and over arrays."""
    content = hashlib.sha256(described.encode())
    for array in arrays:
        array = np.ascontiguousarray(array)
        content.update(f"{array.shape} {array.dtype}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def epochs_of(recipe: Recipe, *then: str) -> int:
    """How often a trial is scored whose following phases train these weights."""
    return recipe.epochs + sum(1 if trains == "head" else recipe.epochs for trains in then)


@functools.cache
def environment() -> str:
    """The code that a score depends on and what it runs on: a change to either is another trial."""
    root = Path(__file__).parent.parent
    code = hashlib.sha256()
    called = [f"countermeasures/{name}.py" for name in ("adversarial", "dp_sgd", "last_layer", "recovery", "ridge")]
    called += [f"evaluation/{name}.py" for name in ("answers", "cache", "fitted", "relabel", "together", "trial")]
    alone = [f"{name}.py" for name in ("batches", "compiler", "parallel", "patches")]
    for part in ("networks", "training", "transforms", *alone, *called):
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            code.update(file.read_bytes())
    versions = " ".join(f"{library.__name__} {library.__version__}" for library in (flax, jax, optax))
    return f"{code.hexdigest()} {versions} {jax.default_backend()} {jax.device_count()} {jax.devices()[0].device_kind}"
