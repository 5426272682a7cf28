"""The main job: from originals and a key to released images.

`Protection` is the pure part, arrays in and arrays out. `Protection.run` does the three stages, the first two with
checkpoints in a private folder so that a killed run goes on where it was and ends with the same bytes:

1. trajectory: the authorized network trains on the originals; skipped where its blind set makes matching exact;
2. perturbation: the free noise tensor descends the method's losses; skipped where the method keeps its start;
3. release: every image gets its feasible perturbation, rounded to 8 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.authorized.forms import FORMS
from ugejax.authorized.key import Key
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.checkpoint import StepCheckpoints
from ugejax.errors import UserError
from ugejax.networks import build
from ugejax.perturbation.feasible import allowed, feasible
from ugejax.perturbation.rounding import round_to_8bit, stochastic_round_to_8bit
from ugejax.perturbation.start import class_means, class_stripes, misaligned_means, nearest_wrong_class
from ugejax.perturbation.update import Method, NoiseState, free_noise, make_update
from ugejax.training import Recipe, initial_state, make_train_step, record_trajectory
from ugejax.training.loop import epoch_order, run_steps
from ugejax.training.step import decode, freeze

Report = Callable[[str, int, int, dict[str, float]], None]  # stage, done, of, figures


def check_budget(eps: float, norm: str, argument: str = "--eps") -> None:
    """Refuse no budget at all, and an L-infinity budget above 1: somebody wrote grey levels."""
    if not eps > 0 or (norm == "linf" and eps > 1):
        raise UserError(f"{argument} {eps:g}: is not in (0, 1]; images are in [0, 1], so write 8/255 and not 8")


def method_of(form: str, **settings: Any) -> Method:
    """The method with these settings; what is not given is set by the defaults of the authorized form."""
    if form in FORMS and not FORMS[form].exact:
        settings = {"epochs": 15} | settings  # what is not blind can only be matched by optimisation
    return Method(**settings)


@dataclass(frozen=True)
class Protection:
    """One protection of one image set.

    Attributes:
        method: settings of the perturbation.
        network: the authorized network.
        recipe: how the authorized network is trained.
        num_classes: number of classes.
        key: PRNG key of what may be public: surrogates, order, rounding.
        training_key: secret PRNG key of the authorized network's training.
        texture_key: secret PRNG key of the stripes, which could otherwise be drawn again and subtracted.
    """

    method: Method
    network: AuthorizedNetwork
    recipe: Recipe
    num_classes: int
    key: jax.Array
    training_key: jax.Array = field(repr=False)
    texture_key: jax.Array = field(repr=False)

    @classmethod
    def by(cls, key: Key, network: AuthorizedNetwork, method: Method) -> Self:
        """The protection of a key and its network: everything random in it follows from the key."""
        return cls(
            method, network, key.recipe, key.num_classes, jax.random.key(key.public_seed), key.prng("training"),
            key.prng("textures"),
        )  # fmt: skip

    def run(self, images: np.ndarray, labels: np.ndarray, folder: Path, report: Report = lambda *_: None) -> np.ndarray:
        """Protect images.

        Args:
            images: originals, uint8 [N, H, W, C].
            labels: int32 [N].
            folder: private folder of the checkpoints.
            report: called with the stage's name, how much of it is done, of how much, and figures.

        Returns:
            The released images, uint8 [N, H, W, C].
        """
        trajectory = None
        if not self.network.view.blind and (self.method.gradient_matching or self.method.undistillation):
            trajectory = self._trajectory(images, labels, folder / "trajectory", report)
        noise = self._noise(images, labels, trajectory, folder / "noise", report)
        return self.release(images, labels, noise)

    def _trajectory(self, images, labels, folder, report):
        """theta_0 ... theta_T of the authorized network on the originals."""
        network, recipe = self.network, self.recipe
        optimizer = freeze(recipe.build_optimizer(len(images)), network.trains)
        return record_trajectory(
            make_train_step(network.module, optimizer, recipe, train_mode=network.trains == "all"),
            initial_state(network.variables, optimizer),
            jnp.asarray(images),
            jnp.asarray(labels),
            recipe,
            self.training_key,
            StepCheckpoints(folder, keep=None),
            snapshots=self.method.snapshots,
            report=lambda epoch, epochs, loss: report("trajectory", epoch, epochs, {"loss": loss}),
        )

    def _start(self, wrong: np.ndarray, means: np.ndarray) -> jax.Array:
        """The class-wise noise from which the perturbation starts, float32 [num_classes, H, W, C]."""
        method, size = self.method, self.method.amplitude * self.method.eps
        if method.start == "misaligned":
            return misaligned_means(means, wrong, amplitude=size)
        h, w, c = means.shape[1:]
        return class_stripes(self.texture_key, self.num_classes, (h, w, c), amplitude=size, period=method.period)

    def _noise(self, images, labels, trajectory, folder, report) -> jax.Array:
        method, key = self.method, jax.random.fold_in(self.key, 1)
        means = class_means(images, labels, self.num_classes)
        wrong = nearest_wrong_class(means)
        noise = self._start(wrong, means)
        if not method.epochs:
            return noise if method.parametrisation == "class-wise" else noise[labels]
        modules = [build(name, self.num_classes) for name in method.surrogates]
        optimizers = [optax.adam(1e-3) for _ in modules]
        blank = jnp.zeros((1, *images.shape[1:]))
        surrogates = tuple(
            initial_state(module.init(jax.random.fold_in(jax.random.fold_in(self.key, 0), i), blank), optimizer)
            for i, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True))
        )
        state = NoiseState(
            jnp.zeros((), jnp.int32), noise if method.parametrisation == "class-wise" else noise[labels], surrogates
        )
        checkpoints = StepCheckpoints(folder)
        if done := checkpoints.steps():
            state = checkpoints.restore(done[-1], state)
        update = make_update(method, self.network, trajectory, modules, optimizers, jnp.asarray(wrong))
        run, count = run_steps(update), max(1, len(images) // method.batch_size)
        x, y = jnp.asarray(images), jnp.asarray(labels)
        for epoch in range(int(state.step) // count, method.epochs):
            state, losses = run(state, x, y, epoch_order(key, epoch, len(images)), key, count)
            figures = {name: float(values.mean()) for name, values in losses.items()}
            if not bool(jnp.isfinite(state.noise).all()) or not all(np.isfinite(list(figures.values()))):
                raise UserError(
                    f"the perturbation became non-finite in epoch {epoch + 1} ({figures}); lower --step-size"
                )
            checkpoints.save(epoch + 1, state)
            report("perturbation", epoch + 1, method.epochs, figures)
        return state.noise

    def release(self, images: np.ndarray, labels: np.ndarray, noise: jax.Array, *, batch_size: int = 500) -> np.ndarray:
        """Originals uint8 [N, H, W, C] and the free noise tensor to released images, uint8 [N, H, W, C].

        Each image's rounding has a key of its own, from its index, so the result does not depend on the batch size.
        """
        key, method, view = jax.random.fold_in(self.key, 2), self.method, self.network.view

        @jax.jit
        def batch(x_u8, y, index):
            x = decode(x_u8)
            delta = feasible(free_noise(noise, y, index, method), x, view, eps=method.eps, norm=method.norm)
            lower, upper = allowed(x, view, eps=method.eps, norm=method.norm)
            if view.patch is None and view.blind:
                return round_to_8bit(x_u8, delta, lower=lower, upper=upper)  # cells hold whole levels: no residue
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
            if method.norm == "l2":  # rounding towards zero is the one that cannot leave the ball
                delta = jnp.trunc(delta * 255) / 255
            lower, upper = jnp.broadcast_to(lower, x.shape), jnp.broadcast_to(upper, x.shape)
            return jax.vmap(lambda k, x, d, lo, up: stochastic_round_to_8bit(k, x, d, lower=lo, upper=up))(
                keys, x_u8, delta, lower, upper
            )

        released = []
        for start in range(0, len(images), batch_size):
            part = slice(start, min(start + batch_size, len(images)))
            index = jnp.arange(part.start, part.stop)
            released.append(np.asarray(batch(images[part], labels[part], index)))
        return np.concatenate(released)
