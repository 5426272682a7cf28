"""What is measured: one compiled step of one network on one batch size."""

from dataclasses import dataclass

import numpy as np

NUM_CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One row of the results.

    Attributes:
        name: "perturbation_update", on class-wise noise of an authorized network without a view, or "train_step", of a
            classifier by its recipe.
        loss: of the perturbation, the only one whose weight is not 0: "gradient_matching" (relative l2),
            "feature_distance" (error-minimising, the surrogate's training step included) or "undistillation"; "" for
            the training step, which has the cross-entropy.
        network: short name.
        batch: images a step.
        repeats: how often each side is timed, alternating.
        steps: of the perturbation on each batch, which share the clean gradients on our side.
        size: side of the images.
    """

    name: str
    loss: str
    network: str
    batch: int
    repeats: int
    steps: int = 1
    size: int = 32

    @property
    def images(self) -> int:
        """Images that a call handles, each as often as it is moved."""
        return self.batch * self.steps

    @property
    def title(self) -> str:
        """The case in a few words."""
        return " ".join(filter(None, (self.name, self.loss, self.network, f"{self.batch}x{self.steps}")))


def _cases(network: str, batches: dict[int, int], others: int) -> list[Case]:
    """Gradient matching and training at all batch sizes (with their repeats), the other losses at one of them."""
    return [
        *(Case("perturbation_update", "gradient_matching", network, batch, n) for batch, n in batches.items()),
        Case("perturbation_update", "feature_distance", network, others, batches[others]),
        Case("perturbation_update", "undistillation", network, others, batches[others]),
        *(Case("train_step", "", network, batch, n) for batch, n in batches.items()),
    ]


SCALES = {
    "smoke": [
        Case("perturbation_update", "gradient_matching", "mlp", 4, 1, size=8),
        Case("train_step", "", "mlp", 4, 1, size=8),
    ],
    "cpu": [
        *_cases("cnn", {32: 20, 128: 10, 512: 3}, 128),
        Case("perturbation_update", "gradient_matching", "cnn", 32, 10, steps=2),
        *_cases("r18", {32: 3}, 32),
        Case("train_step", "", "speedrun", 500, 3),
    ],
    "accelerator": [
        *_cases("cnn", {128: 50, 512: 50}, 128),
        *_cases("r18", {128: 50, 512: 20}, 128),
        Case("train_step", "", "speedrun", 500, 50),
    ],
}


def start(case: Case) -> dict[str, np.ndarray]:
    """Where both sides start but for the weights: two batches of random images, of which the first is measured.

    images uint8 [2 B, H, W, 3], labels int32 [2 B], and noise float32 [classes, H, W, 3] within the budget of 8/255.
    """
    rng, size = np.random.default_rng(0), case.size
    return {
        "images": rng.integers(0, 256, (2 * case.batch, size, size, 3)).astype(np.uint8),
        "labels": rng.integers(0, NUM_CLASSES, 2 * case.batch).astype(np.int32),
        "noise": rng.uniform(-8 / 255, 8 / 255, (NUM_CLASSES, size, size, 3)).astype(np.float32),
    }


def disagreement(
    before: dict[str, np.ndarray], ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, float]:
    """How far two sides are apart after the same step, as shares: of the loss, of the noise and of the weights.

    Of noise and weights ("params") it is the sum of absolute differences relative to how far they moved, all weights
    together. NaN where anything is.
    """
    shares = {"loss": abs(float(ours["loss"]) - float(theirs["loss"])) / abs(float(theirs["loss"]))}
    for kind in {name.partition("/")[0] for name in theirs} - {"loss"}:
        names = [name for name in theirs if name.partition("/")[0] == kind]
        apart = sum(np.abs(ours[name] - theirs[name]).sum(dtype=np.float64) for name in names)
        shares[kind] = float(apart / sum(np.abs(theirs[name] - before[name]).sum(dtype=np.float64) for name in names))
    return shares
