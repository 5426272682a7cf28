"""Training a network: a pure compiled step, the loop around it, and the trajectory that it leaves."""

from ugejax.training.loop import accuracy, fit, outputs
from ugejax.training.prepare import prepared
from ugejax.training.recipe import Recipe, default_recipe
from ugejax.training.step import Batch, TrainState, decode, initial_state, make_train_step
from ugejax.training.together import fit_together
from ugejax.training.trajectory import record_trajectory, snapshot

__all__ = [
    "Batch",
    "Recipe",
    "TrainState",
    "accuracy",
    "decode",
    "default_recipe",
    "fit",
    "fit_together",
    "initial_state",
    "make_train_step",
    "outputs",
    "prepared",
    "record_trajectory",
    "snapshot",
]
