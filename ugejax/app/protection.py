"""The main job: from originals and a key to released images.

`Protection` is the pure part, arrays in and arrays out, in three stages, the first two with checkpoints in a private
folder so that a killed run goes on where it was and ends with the same bytes:

1. trajectory: the authorized network trains on the originals; skipped where its blind set makes matching exact;
2. perturbation: free noise, or a generator, descends the method's losses; skipped where the method keeps its start;
3. release: every image gets its feasible perturbation, rounded to 8 bits, in bulk and piece by piece.

Few images of a stream are in memory at a time; up to 1 GiB of them lies on the device in the first two stages.
"""

import contextlib
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.noise_files import NoiseFiles
from ugejax.app.seal import Seal
from ugejax.authorized.key import Key
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.batches import at_a_time, in_pieces
from ugejax.compiler import compiled, kept
from ugejax.constraints.budget import amplitude
from ugejax.data import Images
from ugejax.data.stream import ImageStream
from ugejax.errors import UserError
from ugejax.feature_spaces import FeatureSpace
from ugejax.losses import class_prototypes
from ugejax.memory import OutOfMemory
from ugejax.networks import build
from ugejax.parallel import here, in_bulk, on_all_devices
from ugejax.perturbations.method import CHOICES, STRENGTHS, Method
from ugejax.perturbations.parametrisation import initial_noise, parametrise
from ugejax.perturbations.start import STARTS, class_means, nearest_wrong_class
from ugejax.reporting import Report
from ugejax.terms import CommonSpace, Term, matched
from ugejax.training import Batch, Recipe
from ugejax.training.loop import check_finite, epoch_order, on_resident, run_steps, stream_steps
from ugejax.training.step import decode
from ugejax.uge import make_update, release_batch, trajectory
from ugejax.views import View, find_form, shared_blind_set
from ugejax.views.derive import derive

# Of originals that lie on the devices while the perturbation is optimised; more are read batch by batch.
_RESIDENT_BYTES = 2**30


def check_budget(eps: float, norm: str) -> None:
    """Refuse no budget at all, and an L-infinity budget above 1: somebody wrote grey levels.

    Raises:
        UserError: it is one of these.
    """
    if not eps > 0 or (norm == "linf" and eps > 1):
        raise UserError(
            "is not in (0, 1]; images are in [0, 1], so write 8/255 and not 8", argument="eps", value=f"{eps:g}"
        )


def method_of(forms: Iterable[str], strength: str = "standard", **settings: Any) -> Method:
    """The method with these settings; others are those of the strength, then of the authorized networks' forms.

    Raises:
        UserError: a form, a strength, a setting, or one of its values, is unknown.
    """
    if strength not in STRENGTHS:
        raise UserError(f"must be one of {', '.join(STRENGTHS)}", argument="strength", value=strength)
    if unknown := set(settings) - {known.name for known in fields(Method)}:
        raise UserError(f"settings: unknown {min(unknown)!r}; they are the fields of ugejax.uge.Method")
    for name, choices in CHOICES.items():
        if name in settings and settings[name] not in choices:
            raise UserError(f"settings: {name} must be one of {', '.join(choices)}, not {settings[name]!r}")
    defaults: dict[str, Any] = {}
    if settings.get("parametrisation") == "generator":  # which has to be trained
        defaults["epochs"] = 15
    for form in forms:
        defaults |= find_form(form).settings
    method = Method(**defaults | STRENGTHS[strength] | settings)
    if method.norm != "linf" and "eps" in STRENGTHS[strength] and "eps" not in settings:
        raise UserError("has a budget for norm linf alone; give one", argument="eps")
    if unused := [name for name in settings if method.unused(name)]:
        raise UserError(f"is not of parametrisation {method.parametrisation}; leave it out", argument=unused[0])
    if method.code_side % method.code_cell:
        raise UserError(
            f"does not divide {method.code_side}, the side of a pattern", argument="code_cell", value=method.code_cell
        )
    if not 0 <= method.code_share <= 1:
        raise UserError("is not in [0, 1]", argument="code_share", value=method.code_share)
    return method


def check_makes_releases(key: Key) -> None:
    """Refuse a key of ugejax 0.1, of which all releases have one and the same dither.

    Raises:
        UserError: it is one.
    """
    if key.version == 1:
        raise UserError("the key is of ugejax 0.1: it reads and evaluates its releases, and makes none; make a new key")


def run_digest(
    method: Method,
    keys: Sequence[Key],
    images: ImageStream,
    labels: np.ndarray,
    further: Mapping[str, Any] | None = None,
) -> str:
    """SHA-256, in hexadecimal, of all that the bytes of a release follow from but the version of the program.

    Args:
        method: settings of the perturbation.
        keys: of the release, the first one first.
        images: originals.
        labels: int [N].
        further: what describes the feature space and terms of the loss beside the method's, if there are any.
    """
    described = [method.described, [key.fingerprint for key in keys], images.digest, further or {}]
    content = json.dumps(described, sort_keys=True).encode() + labels.astype("<i4").tobytes()
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Partner:
    """A further authorized network that shall learn from the same release.

    Attributes:
        network: the network.
        recipe: how it is trained.
        training_key: secret PRNG key of its training.
        folder: private folder of the checkpoints of its trajectory, which nobody else's key may hold.
        seal: encrypts what is written there.
    """

    network: AuthorizedNetwork
    recipe: Recipe
    training_key: jax.Array = field(repr=False)
    folder: Path
    seal: Seal | None = None


@dataclass(frozen=True)
class Protection:
    """One protection of one image set.

    Attributes:
        method: settings of the perturbation.
        network: the authorized network.
        recipe: how the authorized network is trained.
        num_classes: number of classes.
        prng_key: PRNG key of what may be public: surrogates and order.
        training_key: secret PRNG key of the authorized network's training.
        texture_secret: decides which class has which stripes.
        rounding_key: secret PRNG key of the rounding at random, without which a release would tell more of the
            perturbation than its 8 bits do.
        others: further authorized networks; the perturbation is one that all of them are blind to, or matched with.
        feature_space: a frozen encoder that the feature distance is measured in as well.
        prototypes: of the classes in that space, float32 [num_classes, F]; None takes the originals' class means.
        terms: summands of the loss; None takes those of the method.
    """

    method: Method
    network: AuthorizedNetwork
    recipe: Recipe
    num_classes: int
    prng_key: jax.Array
    training_key: jax.Array = field(repr=False)
    texture_secret: bytes = field(repr=False)
    rounding_key: jax.Array = field(repr=False)
    others: tuple[Partner, ...] = ()
    feature_space: FeatureSpace | None = None
    prototypes: np.ndarray | None = None
    terms: tuple[Term, ...] | None = None

    @classmethod
    def by(cls, key: Key, network: AuthorizedNetwork, method: Method) -> Self:
        """The protection of a key and its network: everything random in it follows from the key.

        Raises:
            UserError: the key is of ugejax 0.1.
        """
        check_makes_releases(key)
        return cls(
            method, network, key.recipe, key.num_classes, jax.random.key(key.public_seed), key.prng("training"),
            key.derive("textures", 32), key.prng("rounding"),
        )  # fmt: skip

    def of_release(self, salt: bytes) -> Self:
        """The same protection for another release, by the public salt of that, 16 bytes."""
        return replace(self, network=self.network.of_release(salt))

    def run(self, images: Images, labels: np.ndarray, folder: Path, report: Report = lambda *_: None) -> np.ndarray:
        """Protect images: all stages; see `learn` for the arguments.

        Returns:
            The released images, uint8 [N, H, W, C].
        """
        return self.release(images, labels, self.learn(images, labels, folder, report))

    def learn(
        self, images: Images, labels: np.ndarray, folder: Path, report: Report = lambda *_: None, *,
        seal: Seal | None = None, first: Partner | None = None,
    ) -> Any:  # fmt: skip
        """The first two stages.

        Args:
            images: originals, uint8 [N, H, W, C].
            labels: int32 [N].
            folder: private folder of the checkpoints.
            report: called with the stage's name, how much of it is done, of how much, and figures.
            seal: encrypts what is written to the folder.
            first: the authorized network once more, where its trajectory has a folder of its own.

        Returns:
            What the perturbation is made from, see `NoiseState`; noise per image of a stream that is too large for the
            devices lies in files.
        """
        first = first or Partner(self.network, self.recipe, self.training_key, folder, seal)
        networks = [
            (partner.network, self._trajectory(partner, images, labels, name, report))
            for name, partner in self._partners(first)
        ]
        return self._noise(images, labels, networks, folder, seal, report)

    def _partners(self, first: Partner) -> list[tuple[str, Partner]]:
        """All authorized networks alike, each with the name of its stage."""
        further = [(f"trajectory {i}", partner) for i, partner in enumerate(self.others, 2)]
        return [("trajectory", first), *further]

    def _trajectory(self, partner, images, labels, stage, report):
        """theta_0 ... theta_T of an authorized network on the originals; None where nothing is to be matched."""
        if not matched(partner.network.view, self.method, self.terms):
            return None
        seal = partner.seal and partner.seal / "trajectory"
        try:
            return trajectory(
                partner.network, partner.recipe, images if _streams(images) else jnp.asarray(images[:]),
                jnp.asarray(labels), partner.training_key, snapshots=self.method.snapshots,
                checkpoints=StepCheckpoints(partner.folder / "trajectory", keep=None, seal=seal),
                report=lambda epoch, epochs, loss: report(stage, epoch, epochs, {"loss": loss}),
            )  # fmt: skip
        except OutOfMemory as error:  # with other batches it were not the training that the key describes
            raise UserError(f"{stage}: {error}; choose a smaller network or smaller images") from error

    def _start(self, images: Images, labels: np.ndarray) -> jax.Array:
        """The class-wise noise from which the perturbation starts, float32 [num_classes, H, W, C]."""
        method = self.method
        size = method.amplitude * amplitude(method.eps, method.norm, images.shape[1:])
        return STARTS[method.start](
            self.texture_secret, images, labels, self.num_classes, amplitude=size, period=method.period
        )

    def _codes_secret(self) -> bytes:
        """What codes follow from: another one for each release, so that two of one key tell nothing of each other."""
        salts = [np.asarray(view.salt).tobytes().hex() for view in self._views() if view.salt is not None]
        return derive(self.texture_secret, " ".join(["codes", *salts]), 32)

    def _views(self) -> list[View]:
        return [self.network.view, *(partner.network.view for partner in self.others)]

    def _space(self, images: Images, labels: np.ndarray, *, batch_size: int = 50) -> CommonSpace | None:
        """The common feature space with a prototype for each class."""
        if self.feature_space is None:
            return None
        prototypes, encode = self.prototypes, self.feature_space.encode
        if prototypes is None:
            run = compiled(lambda x: encode(decode(x)))
            parts = in_pieces(lambda part, _: np.asarray(run(images[part])), len(images), batch_size)
            features = jnp.concatenate([features for _, features in parts])
            prototypes = class_prototypes(features, jnp.asarray(labels), num_classes=self.num_classes)
        return CommonSpace(encode, jnp.asarray(prototypes))

    def _noise(self, images, labels, networks, folder, seal, report) -> Any:
        method, key = self.method, jax.random.fold_in(self.prng_key, 1)
        start, streams = self._start(images, labels), _streams(images)
        size = at_a_time(images.shape[1:], most=min(method.batch_size, len(images)))
        count = len(images) // size
        # Of a stream's noise per image the rows of one batch: the others lie in files.
        rows = labels[:size] if streams and method.epochs else labels
        if not method.epochs:
            return initial_noise(self.prng_key, method, start, images, rows, (), (), self._codes_secret()).noise
        space = self._space(images, labels)
        wrong = nearest_wrong_class(
            class_means(images, labels, self.num_classes) if space is None else np.asarray(space.prototypes)
        )
        modules = [build(name, self.num_classes) for name in method.surrogates]
        optimizers = [_surrogate_optimizer() for _ in modules]
        state = initial_noise(self.prng_key, method, start, images, rows, modules, optimizers, self._codes_secret())
        checkpoints = StepCheckpoints(folder / "noise", seal=seal and seal / "noise")
        if done := checkpoints.steps():
            state = checkpoints.restore(done[-1], state)
        (network, theta), *others = networks
        update = make_update(
            method, network, theta, modules, optimizers, jnp.asarray(wrong), terms=self.terms, others=others,
            space=space,
        )  # fmt: skip
        begun, files = int(state.step) // count, None
        if not streams:
            run = run_steps(on_resident(update, size), size)
            x, y = on_all_devices((jnp.asarray(images[:]), jnp.asarray(labels)))
        elif method.parametrisation != "sample-wise":
            run, x, y = stream_steps(update, size), images, labels
        else:
            rows, seal = folder / "noise-files", seal and seal / "noise-files"
            files = NoiseFiles(rows, np.asarray(start), labels, epoch=begun, seal=seal)
            run, x, y = stream_steps(update, size, before=files.give, after=files.take, in_batch=True), images, labels
        for epoch in range(begun, method.epochs):
            with files.next_epoch() if files else contextlib.nullcontext():
                state, losses = run(state, x, y, epoch_order(key, epoch, len(images)), key, count)
            lower = "the weights of the losses" if method.parametrisation == "generator" else "`step_size`"
            advice = f"; {checkpoints.path} holds what came before; lower {lower}"
            check_finite({f"{name} loss": values for name, values in losses.items()}, epoch + 1, advice=advice)
            if not (files.finite if files else all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.noise))):
                raise UserError(f"the perturbation became non-finite in epoch {epoch + 1}{advice}")
            figures = {name: float(values.mean()) for name, values in losses.items()}
            checkpoints.save(epoch + 1, state)
            if files:
                files.advance()
            report("perturbation", epoch + 1, method.epochs, figures)
        return files or here(state.noise)

    def release(self, images: Images, labels: np.ndarray, noise: Any, *, batch_size: int | None = None) -> np.ndarray:
        """The last stage at once; see `released`."""
        return np.concatenate(list(self.released(images, labels, noise, batch_size=batch_size)))

    def released(
        self, images: Images, labels: np.ndarray, noise: Any, report: Report = lambda *_: None, *,
        part: slice = slice(None), batch_size: int | None = None,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """The last stage, piece by piece, in bulk on all local devices.

        Args:
            images: originals, uint8 [N, H, W, C]; for a generator any images of its classes.
            labels: int32 [N].
            noise: from `learn`.
            report: as for `learn`.
            part: which of the images.
            batch_size: images at a time; by default as many as `at_a_time` says.

        Yields:
            Released images in order, uint8 [n, H, W, C]. Each image's rounding has a key of its own, from its index,
            so they depend neither on the batch size nor on the number of devices nor on the part.
        """
        key, method = self.rounding_key, self.method
        view = shared_blind_set(self._views())
        per_image = method.parametrisation == "sample-wise"
        first, end, _ = part.indices(len(images))
        batch_size = at_a_time(images.shape[1:], most=batch_size or end - first)

        # Noise of images' own goes to the devices with the images, everything else once and for all. The secret view is
        # an argument: a constant would be compiled in, and kept on disk with the program.
        @functools.lru_cache(maxsize=1)
        def bulk(size: int) -> Callable[..., np.ndarray]:
            return in_bulk(_released_batch(method), (None if per_image else noise, view, key), batch_size=size)

        def work(piece: slice, size: int) -> np.ndarray:
            own = np.asarray(noise[piece]) if per_image else labels[piece]
            return bulk(size)(own, images[piece], np.arange(piece.start, piece.stop))

        for piece, released in in_pieces(work, end, batch_size, start=first):
            yield released
            report("release", piece.stop, end, {})


@kept
def _surrogate_optimizer() -> optax.GradientTransformation:
    return optax.adam(1e-3)


@kept
def _released_batch(method: Method) -> Callable[..., jax.Array]:
    """The release of a batch: released((noise, view, PRNG key), labels or own noise, images, indices), all of them [B].

    Images and result are uint8 [B, H, W, C].
    """

    def released(shared, own, images, index):
        noise, view, key = shared
        wanted = own
        if noise is not None:
            wanted = parametrise(method, images.shape[1:]).wanted(noise, Batch(decode(images), own, index))
        return release_batch(method, view, wanted, images, index, key)

    return released


def _streams(images: Images) -> bool:
    """Whether images are read batch by batch while the perturbation is optimised."""
    return isinstance(images, ImageStream) and math.prod(images.shape) > _RESIDENT_BYTES
