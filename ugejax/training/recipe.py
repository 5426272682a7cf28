"""How a network is trained: optimizer, schedule, epochs, batch size, augmentation."""

from dataclasses import dataclass, replace

import optax

from ugejax.compiler import kept
from ugejax.errors import UserError
from ugejax.networks import find_network


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Attributes:
        optimizer: "adamw" or "sgd" (momentum 0.9, Nesterov off, weight decay added to the gradient).
        learning_rate: peak of the schedule.
        weight_decay: decoupled for adamw.
        epochs: passes over the training images.
        batch_size: images a step; the last incomplete batch of an epoch is left out.
        augment: names in `ugejax.transforms.TRANSFORMS`, applied in turn to every batch.
    """

    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 5e-3
    epochs: int = 15
    batch_size: int = 32
    augment: tuple[str, ...] = ()

    def at_most(self, batch_size: int | None) -> "Recipe":
        """The recipe with no more images a step than this, if it is a number: another training."""
        return self if batch_size is None else replace(self, batch_size=min(self.batch_size, batch_size))

    def steps_per_epoch(self, n: int) -> int:
        """Steps in one epoch over n images; at least one."""
        return max(1, n // self.batch_size)

    def build_optimizer(self, n: int) -> optax.GradientTransformation:
        """The optax optimizer with its schedule for n training images.

        adamw: one cycle with a cosine, the peak at 20 %. sgd: cosine decay to zero, the field's schedule for CIFAR.
        """
        return _optimizer(self, self.steps_per_epoch(n) * self.epochs)


@kept
def _optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    if recipe.optimizer == "adamw":
        # A one-cycle schedule needs at least one step on either side of its peak.
        schedule = optax.cosine_onecycle_schedule(max(steps, 10), recipe.learning_rate, 0.2)
        return optax.adamw(schedule, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "sgd":
        schedule = optax.cosine_decay_schedule(recipe.learning_rate, steps)
        return optax.chain(optax.add_decayed_weights(recipe.weight_decay), optax.sgd(schedule, momentum=0.9))
    raise UserError(f"unknown optimizer {recipe.optimizer!r}: choose adamw or sgd")


# What the entries of `ugejax.networks.NETWORKS` name.
RECIPES = {
    "small": Recipe(),
    # The field's for networks with batch norm (lafeat/apbench, train.py), but for its 200 epochs and its schedule.
    "sgd": Recipe(optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, epochs=60, batch_size=128),
    # Lee et al. (arXiv 2112.13492) for transformers on CIFAR, by the defaults of their code (aanna0701/SPT_LSA_ViT),
    # without its augmentations, label smoothing and stochastic depth.
    "patches": Recipe(learning_rate=1e-3, weight_decay=0.05, epochs=100, batch_size=128),
}
# Times the epochs with augmentation, 36 where 15 do without: augmented hackers look harmless while undertrained.
CONVERGED = 2.4


def default_recipe(network: str, *, epochs: int | None = None, augment: tuple[str, ...] = ()) -> Recipe:
    """The recipe by which a network of that short name is trained.

    Small networks: AdamW, 2e-3, batch 32. Convolutional networks with batch norm: SGD with momentum 0.9, 0.1, weight
    decay 5e-4, batch 128, the field's recipe. Networks on patches: AdamW, 1e-3, weight decay 0.05, batch 128.

    Args:
        network: short name in `ugejax.networks.NETWORKS`, whose entry names the recipe.
        epochs: epochs without augmentation; default 15 for small networks, 60 for SGD, 100 on patches.
        augment: names of transforms; with any, training takes `CONVERGED` times as many epochs.

    Raises:
        UserError: there is no network of that name.
    """
    recipe = RECIPES[find_network(network).recipe]
    epochs = epochs or recipe.epochs
    return replace(recipe, epochs=round(epochs * CONVERGED) if augment else epochs, augment=augment)
