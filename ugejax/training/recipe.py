"""How a network is trained: optimizer, schedule, epochs, batch size, augmentation."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import jax
import optax

from ugejax.compiler import kept
from ugejax.errors import UserError
from ugejax.networks import NETWORKS


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Attributes:
        optimizer: "adamw", "sgd" (momentum 0.9, Nesterov off, weight decay added to the gradient) or "nesterov"
            (momentum 0.85, weight decay likewise, biases of the body learn `BIAS_RATE` times as fast).
        learning_rate: peak of the schedule.
        weight_decay: decoupled for adamw.
        epochs: passes over the training images.
        batch_size: images a step; the last incomplete batch of an epoch is left out.
        augment: names in `ugejax.transforms.TRANSFORMS`, applied in turn to every batch.
        label_smoothing: share of each label that is spread over all classes.
        shift: pixels up to which each image is moved along both axes, at random, reflected at the border.
        mirror: whether each image is mirrored left to right in every second epoch, see `ugejax.training.mirror`.
        mirrored_test: whether what it says of an image is the mean of the logits of the image and its mirror image.
    """

    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 5e-3
    epochs: int = 15
    batch_size: int = 32
    augment: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    shift: int = 0
    mirror: bool = False
    mirrored_test: bool = False

    @property
    def described(self) -> dict[str, Any]:
        """The settings by name, for files: those that came later are left out where they change nothing.

        So the files and fingerprints of keys are what they were before there were such settings.
        """
        defaults = {field.name: field.default for field in fields(self) if field.name in _LATER}
        return {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}

    def at_most(self, batch_size: int | None) -> "Recipe":
        """The recipe with no more images a step than this, if it is a number: another training."""
        return self if batch_size is None else replace(self, batch_size=min(self.batch_size, batch_size))

    def steps_per_epoch(self, n: int) -> int:
        """Steps in one epoch over n images; at least one."""
        return max(1, n // self.batch_size)

    def build_optimizer(self, n: int) -> optax.GradientTransformation:
        """The optax optimizer with its schedule for n training images; see `schedule`."""
        return _optimizer(self, n)

    def schedule(self, n: int) -> optax.Schedule:
        """The learning rate by step for n training images.

        adamw: one cycle with a cosine, the peak at 20 %. sgd: cosine decay to zero, the field's schedule for CIFAR.
        nesterov: linearly from 0.2 of the peak to the peak at 23 %, and down to 0.07 of it.
        """
        steps, peak = self.steps_per_epoch(n) * self.epochs, self.learning_rate
        if self.optimizer == "adamw":
            # A one-cycle schedule needs at least one step on either side of its peak.
            return optax.cosine_onecycle_schedule(max(steps, 10), peak, 0.2)
        if self.optimizer == "nesterov":
            rising = max(1, round(0.23 * steps))
            up = optax.linear_schedule(0.2 * peak, peak, rising)
            return optax.join_schedules(
                [up, optax.linear_schedule(peak, 0.07 * peak, max(1, steps - rising))], [rising]
            )
        return optax.cosine_decay_schedule(peak, steps)

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """The optax optimizer with a learning rate that depends on the step.

        Raises:
            UserError: there is no optimizer of that name.
        """
        if self.optimizer == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay)
        decay = optax.add_decayed_weights(self.weight_decay)
        if self.optimizer == "sgd":
            return optax.chain(decay, optax.sgd(rate, momentum=0.9))
        if self.optimizer == "nesterov":
            return optax.chain(optax.stateless(_quick_biases), decay, optax.sgd(rate, momentum=0.85, nesterov=True))
        raise UserError(f"unknown optimizer {self.optimizer!r}: choose adamw, sgd or nesterov")


@kept
def _optimizer(recipe: Recipe, n: int) -> optax.GradientTransformation:
    return recipe.rule(recipe.schedule(n))


# How many times as fast as the other weights the biases of a body learn with "nesterov".
BIAS_RATE = 64
# Settings that keys of before have not, see `Recipe.described`.
_LATER = ("label_smoothing", "shift", "mirror", "mirrored_test")


def _quick_biases(gradients: Any, params: Any) -> Any:
    """Gradients, those of the body's biases times `BIAS_RATE`, which raises their learning rate and not their decay."""

    def quick(path, gradient):
        names = [key.key for key in path]
        return BIAS_RATE * gradient if names[0] == "body" and names[-1] == "bias" else gradient

    return jax.tree_util.tree_map_with_path(quick, gradients)


# What the entries of `ugejax.networks.NETWORKS` name.
RECIPES = {
    "small": Recipe(),
    # The field's for networks with batch norm (lafeat/apbench, train.py), but for its 200 epochs and its schedule.
    "sgd": Recipe(optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, epochs=60, batch_size=128),
    # Lee et al. (arXiv 2112.13492) for transformers on CIFAR, by the defaults of their code (aanna0701/SPT_LSA_ViT),
    # without its augmentations, label smoothing and stochastic depth.
    "patches": Recipe(learning_rate=1e-3, weight_decay=0.05, epochs=100, batch_size=128),
    # KellerJordan/cifar10-airbench (arXiv 2404.00498), without its lookahead and the bias of its whitening. Its rate is
    # 1.5 for batches of 1,024; half as many leave small sets enough steps.
    "speedrun": Recipe(
        "nesterov", learning_rate=0.73, weight_decay=1.33e-3, epochs=11, batch_size=500, label_smoothing=0.2, shift=2,
        mirror=True, mirrored_test=True,
    ),
}  # fmt: skip
# Times the epochs with augmentation, 36 where 15 do without: augmented hackers look harmless while undertrained.
CONVERGED = 2.4


def default_recipe(network: str, *, epochs: int | None = None, augment: tuple[str, ...] = ()) -> Recipe:
    """The recipe by which a network of that short name is trained.

    Small networks: AdamW, 2e-3, batch 32. Convolutional networks with batch norm: SGD with momentum 0.9, 0.1, weight
    decay 5e-4, batch 128, the field's recipe. Networks on patches: AdamW, 1e-3, weight decay 0.05, batch 128.
    `speedrun`: SGD with Nesterov's momentum, batch 500, smoothed labels; it shifts and mirrors without being asked to.

    Args:
        network: short name in `ugejax.networks.NETWORKS`, whose entry names the recipe.
        epochs: epochs without augmentation; default 15 for small networks, 60 for SGD, 100 on patches, 11 for
            `speedrun`.
        augment: names of transforms; with any, training takes `CONVERGED` times as many epochs.

    Raises:
        UserError: there is no network of that name.
    """
    recipe = RECIPES[NETWORKS.find(network).recipe]
    epochs = epochs or recipe.epochs
    return replace(recipe, epochs=round(epochs * CONVERGED) if augment else epochs, augment=augment)
