"""One trial: a network trained on one image set and scored on clean test images; cached by what determines it."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.training import Recipe, accuracy, fit, initial_state, make_train_step
from ugejax.training.step import freeze


@dataclass(frozen=True)
class Score:
    """What a trial found.

    Attributes:
        by_epoch: clean-test accuracy after each epoch, fractions.
        seconds: wall-clock time that training and scoring took.
    """

    by_epoch: list[float]
    seconds: float

    @property
    def last(self) -> float:
        """Accuracy after the last epoch."""
        return self.by_epoch[-1]

    @property
    def peak(self) -> float:
        """Best accuracy over the epochs: what early stopping on clean images would have got."""
        return max(self.by_epoch)


@dataclass(frozen=True, eq=False)
class Trial:
    """A network, its images and its recipe.

    Attributes:
        module: flax network.
        variables: initial variables; None draws them from the key.
        trains: "all" or "head".
        recipe: how it is trained.
        images: training images, uint8 or float32 [N, H, W, C].
        labels: int32 [N].
        test_images: as the network shall see them.
        test_labels: int32 [M].
        key: PRNG key of initialisation (where needed), order and augmentation.
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

    @property
    def digest(self) -> str:
        """SHA-256 over everything that determines the score, the code of the package and the backend among it."""
        content = hashlib.sha256(_environment().encode())
        content.update(f"{self.module!r} {self.trains} {json.dumps(asdict(self.recipe), sort_keys=True)}".encode())
        arrays = [self.images, self.labels, self.test_images, self.test_labels, jax.random.key_data(self.key)]
        for array in [*arrays, *jax.tree.leaves(self.variables)]:
            array = np.ascontiguousarray(array)
            content.update(f"{array.shape} {array.dtype}".encode())
            content.update(array.tobytes())
        return content.hexdigest()

    def run(self, report: Callable[[int, int, float], None] = lambda epoch, epochs, accuracy: None) -> Score:
        """Train and score; `report` is called after every epoch."""
        start, by_epoch = time.perf_counter(), []
        init_key, train_key = jax.random.split(self.key)
        variables = self.variables
        if variables is None:
            variables = self.module.init(init_key, jnp.zeros((1, *self.images.shape[1:])))
        optimizer = freeze(self.recipe.build_optimizer(len(self.images)), self.trains)
        step = make_train_step(self.module, optimizer, self.recipe, train_mode=self.trains == "all")
        test_images = jnp.asarray(self.test_images)

        def score(epoch, state, loss):
            by_epoch.append(accuracy(self.module, state.variables, test_images, self.test_labels))
            report(epoch, self.recipe.epochs, by_epoch[-1])

        state = initial_state(variables, optimizer)
        fit(step, state, jnp.asarray(self.images), jnp.asarray(self.labels), self.recipe, train_key, after_epoch=score)
        return Score(by_epoch, time.perf_counter() - start)

    def run_cached(self, folder: Path, report: Callable[[int, int, float], None]) -> Score:
        """The score, from the cache folder if this very trial is in it."""
        file = folder / f"{self.digest}.json"
        try:
            return Score(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            pass  # not there, or cut off while it was written: do it again
        score = self.run(report)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(score)))
        temporary.replace(file)
        return score


def default_cache() -> Path:
    """Where scores are kept: $UGEJAX_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("UGEJAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugejax" / "trials"


@cache
def _environment() -> str:
    """The package's code and what it runs on: a change to either is another trial."""
    root = Path(__file__).parent.parent
    code = hashlib.sha256()
    for part in ("networks", "training", "perturbation/transforms.py"):
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            code.update(file.read_bytes())
    return f"{code.hexdigest()} jax {jax.__version__} {jax.default_backend()} {jax.devices()[0].device_kind}"
