"""The main job: from originals and a key to released images.

`Protection` is the pure part, arrays in and arrays out, in three stages, the first two with checkpoints in a private
folder so that a killed run goes on where it was and ends with the same bytes:

1. trajectory: the authorized network trains on the originals; skipped where its blind set makes matching exact;
2. perturbation: the free noise tensor descends the method's losses; skipped where the method keeps its start;
3. release: every image gets its feasible perturbation, rounded to 8 bits, in bulk and piece by piece.

Few images of a stream are in memory at a time; up to 1 GiB of them lies on the device in the first two stages.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.authorized.network import AuthorizedNetwork
from ugejax.checkpoint import StepCheckpoints
from ugejax.data import Images
from ugejax.data.stream import ImageStream, pieces
from ugejax.errors import UserError
from ugejax.networks import build
from ugejax.parallel import everywhere, in_bulk
from ugejax.perturbation.feasible import allowed, feasible
from ugejax.perturbation.noise_files import NoiseFiles
from ugejax.perturbation.rounding import round_to_8bit, stochastic_round_to_8bit
from ugejax.perturbation.start import class_means, class_stripes, misaligned_means, nearest_wrong_class
from ugejax.perturbation.update import Method, NoiseState, make_update
from ugejax.training import Recipe, initial_state, make_train_step, record_trajectory
from ugejax.training.loop import epoch_order, run_steps, stream_steps
from ugejax.training.step import decode, freeze

Report = Callable[[str, int, int, dict[str, float]], None]  # stage, done, of, figures
# Of originals that the release works on at a time: 1,365 of 32 x 32 x 3, 27 of 224 x 224 x 3.
_BATCH_BYTES = 2**22
# Of originals that lie on the devices while the perturbation is optimised; more are read batch by batch.
_RESIDENT_BYTES = 2**30


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
    training_key: jax.Array
    texture_key: jax.Array

    def run(self, images: Images, labels: np.ndarray, folder: Path, report: Report = lambda *_: None) -> np.ndarray:
        """Protect images: all stages; see `noise` for the arguments.

        Returns:
            The released images, uint8 [N, H, W, C].
        """
        return self.release(images, labels, self.noise(images, labels, folder, report))

    def noise(
        self, images: Images, labels: np.ndarray, folder: Path, report: Report = lambda *_: None
    ) -> jax.Array | NoiseFiles:
        """The first two stages.

        Args:
            images: originals, uint8 [N, H, W, C].
            labels: int32 [N].
            folder: private folder of the checkpoints.
            report: called with the stage's name, how much of it is done, of how much, and figures.

        Returns:
            The free noise tensor, float32 [num_classes, H, W, C], or [N, H, W, C] where the method has one per image;
            of a stream too large for the devices the latter lies in files.
        """
        trajectory = None
        if not self.network.view.blind and (self.method.gradient_matching or self.method.undistillation):
            trajectory = self._trajectory(images, labels, folder / "trajectory", report)
        return self._noise(images, labels, trajectory, folder / "noise", report)

    def _trajectory(self, images, labels, folder, report):
        """theta_0 ... theta_T of the authorized network on the originals."""
        network, recipe = self.network, self.recipe
        optimizer = freeze(recipe.build_optimizer(len(images)), network.trains)
        return record_trajectory(
            make_train_step(network.module, optimizer, recipe, train_mode=network.trains == "all"),
            initial_state(network.variables, optimizer),
            images if _streams(images) else jnp.asarray(images[:]),
            jnp.asarray(labels),
            recipe,
            self.training_key,
            StepCheckpoints(folder, keep=None),
            snapshots=self.method.snapshots,
            report=lambda epoch, epochs, loss: report("trajectory", epoch, epochs, {"loss": loss}),
        )

    def _start(self, images: Images, labels: np.ndarray) -> jax.Array:
        """The class-wise noise from which the perturbation starts, float32 [num_classes, H, W, C]."""
        method, size = self.method, self.method.amplitude * self.method.eps
        if method.start == "misaligned":
            means = class_means(images, labels, self.num_classes)
            return misaligned_means(means, nearest_wrong_class(means), amplitude=size)
        h, w, c = images.shape[1:]
        return class_stripes(self.texture_key, self.num_classes, (h, w, c), amplitude=size, period=method.period)

    def _noise(self, images, labels, trajectory, folder, report) -> jax.Array | NoiseFiles:
        method, key = self.method, jax.random.fold_in(self.key, 1)
        noise = self._start(images, labels)
        if not method.epochs:
            return noise
        wrong = nearest_wrong_class(class_means(images, labels, self.num_classes))
        modules = [build(name, self.num_classes) for name in method.surrogates]
        optimizers = [optax.adam(1e-3) for _ in modules]
        blank = jnp.zeros((1, *images.shape[1:]))
        surrogates = tuple(
            initial_state(module.init(jax.random.fold_in(jax.random.fold_in(self.key, 0), i), blank), optimizer)
            for i, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True))
        )
        streams, size = _streams(images), min(method.batch_size, len(images))
        count = len(images) // size
        rows = noise
        if method.per_image:  # of a stream, those of one batch: the others lie in files
            rows = noise[labels[:size]] if streams else noise[labels]
        state = NoiseState(jnp.zeros((), jnp.int32), rows, surrogates)
        checkpoints = StepCheckpoints(folder)
        if done := checkpoints.steps():
            state = checkpoints.restore(done[-1], state)
        update = make_update(method, self.network, trajectory, modules, optimizers, jnp.asarray(wrong))
        begun, files = int(state.step) // count, None
        if not streams:
            run, (x, y) = run_steps(update), everywhere((jnp.asarray(images[:]), jnp.asarray(labels)))
        elif not method.per_image:
            run, x, y = stream_steps(update, size), images, labels
        else:
            files = NoiseFiles(folder.with_name("noise-files"), np.asarray(noise), labels, epoch=begun)
            run, x, y = stream_steps(update, size, before=files.give, after=files.take), images, labels
        for epoch in range(begun, method.epochs):
            with files.next_epoch() if files else contextlib.nullcontext():
                state, losses = run(state, x, y, epoch_order(key, epoch, len(images)), key, count)
            figures = {name: float(values.mean()) for name, values in losses.items()}
            finite = files.finite if files else bool(jnp.isfinite(state.noise).all())
            if not finite or not all(np.isfinite(list(figures.values()))):
                raise UserError(
                    f"the perturbation became non-finite in epoch {epoch + 1} ({figures}); lower --step-size"
                )
            checkpoints.save(epoch + 1, state)
            if files:
                files.advance()
            report("perturbation", epoch + 1, method.epochs, figures)
        return files or state.noise

    def release(
        self, images: Images, labels: np.ndarray, noise: jax.Array | NoiseFiles, *, batch_size: int | None = None
    ) -> np.ndarray:
        """The last stage at once; see `released`."""
        return np.concatenate(list(self.released(images, labels, noise, batch_size=batch_size)))

    def released(
        self, images: Images, labels: np.ndarray, noise: jax.Array | NoiseFiles, report: Report = lambda *_: None, *,
        start: int = 0, batch_size: int | None = None,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """The last stage, piece by piece, in bulk on all local devices.

        Args:
            images: originals, uint8 [N, H, W, C].
            labels: int32 [N].
            noise: from `noise`.
            report: as for `noise`.
            start: index of the first image.
            batch_size: images at a time; by default as many as 4 MiB hold.

        Yields:
            Released images in order, uint8 [n, H, W, C]. Each image's rounding has a key of its own, from its index,
            so they depend neither on the batch size nor on the number of devices nor on where one began.
        """
        key, method, view = jax.random.fold_in(self.key, 2), self.method, self.network.view
        batch_size = min(batch_size or max(1, _BATCH_BYTES // math.prod(images.shape[1:])), len(images))

        def batch(noise, wanted, x_u8, index):
            x = decode(x_u8)
            delta = feasible(wanted if method.per_image else noise[wanted], x, view, eps=method.eps, norm=method.norm)
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

        run = in_bulk(batch, None if method.per_image else noise, batch_size=batch_size)
        for part in pieces(len(images), batch_size):
            if part.stop > start:
                part = slice(max(start, part.start), part.stop)
                wanted = np.asarray(noise[part]) if method.per_image else labels[part]
                yield run(wanted, images[part], np.arange(part.start, part.stop))
                report("release", part.stop, len(images), {})


def _streams(images: Images) -> bool:
    """Whether images are read batch by batch while the perturbation is optimised."""
    return isinstance(images, ImageStream) and math.prod(images.shape) > _RESIDENT_BYTES
