"""What the perturbation is made from, and how a gradient moves it: free tensors, or the weights of a generator.

A parametrisation gives each image a *wanted* perturbation, which is then brought into the image's feasible set. The
projection is not differentiated: the gradient at the feasible perturbation moves what is behind the wanted one
(straight-through).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ugejax.compiler import on_cpu
from ugejax.constraints.budget import amplitude
from ugejax.networks import initial_variables
from ugejax.parallel import averaged, gathered, summed
from ugejax.perturbations.codes import Placed
from ugejax.perturbations.generator import Generator
from ugejax.perturbations.method import Method
from ugejax.training.prepare import prepared
from ugejax.training.step import Batch, TrainState, initial_state

LEARNING_RATE = 1e-3  # of a generator, by Adam


@flax.struct.dataclass
class NoiseState:
    """What the perturbation carries from update to update.

    Attributes:
        step: int32 scalar, updates done.
        noise: what the parametrisation makes the perturbation from: float32 [num_classes or N, H, W, C], the free noise
            tensor, or a `GeneratorState`.
        surrogates: a `TrainState` for each surrogate.
    """

    step: jax.Array
    noise: Any
    surrogates: tuple[TrainState, ...]


Project = Callable[[jax.Array], jax.Array]  # a wanted perturbation of a batch -> a feasible one


class Parametrisation(Protocol):
    """What the update asks; every method is pure. `noise` is a pytree of arrays, images are float in [0, 1]."""

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> Any:
        """The noise before the first update, of textures float32 [K, H, W, C], labels int32 [N] and a secret."""
        ...

    def wanted(self, noise: Any, batch: Batch) -> jax.Array:
        """The perturbation [B, H, W, C] that the noise gives a batch, not yet feasible."""
        ...

    def moved(
        self, noise: Any, batch: Batch, delta: jax.Array, grad: jax.Array, project: Project, axis_name: str | None
    ) -> Any:
        """The noise after a step down the gradient at the feasible perturbation delta; both [B, H, W, C].

        With an axis the batch is a device's share of one, and the noise, of which every device has the whole, moves
        alike on all of them.
        """
        ...


@dataclass(frozen=True)
class ClassWise:
    """One free tensor per class, float32 [K, H, W, C], moved by the sign of the gradient.

    Attributes:
        eps: budget of a value in units of [0, 1], see `amplitude`; the tensor stays within twice the budget.
        step: step of the signed gradient, in units of [0, 1].
    """

    eps: float
    step: float

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> jax.Array:
        """The textures."""
        return texture

    def wanted(self, noise: jax.Array, batch: Batch) -> jax.Array:
        """The tensor of each image's class."""
        return noise[batch.y]

    def moved(
        self, noise: jax.Array, batch: Batch, delta: jax.Array, grad: jax.Array, project: Project,
        axis_name: str | None = None,
    ) -> jax.Array:  # fmt: skip
        """A step by the sign of the sum over each class's images."""
        moved = jnp.sign(summed(of_classes(grad, batch.y, len(noise)), axis_name))
        return jnp.clip(noise - self.step * moved, -2 * self.eps, 2 * self.eps)


def of_classes(grad: jax.Array, y: jax.Array, num_classes: int) -> jax.Array:
    """The sum of gradients [B, ...] over the images of each class, [num_classes, ...], y int32 [B].

    On an accelerator as a product in full: a scatter would add an image's gradient when it comes, in another order in
    every run, and a sign goes by what is left in the last bit.
    """
    if on_cpu():
        return jnp.zeros((num_classes, *grad.shape[1:]), grad.dtype).at[y].add(grad)
    of_class = jax.nn.one_hot(y, num_classes, dtype=grad.dtype)
    return jnp.einsum("bk,b...->k...", of_class, grad, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class SampleWise:
    """One free tensor per image, float32 [N, H, W, C], moved by the sign of the gradient and feasible from then on.

    Attributes:
        step: step of the signed gradient, in units of [0, 1].
    """

    step: float

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> jax.Array:
        """The texture of each image's class."""
        return texture[labels]

    def wanted(self, noise: jax.Array, batch: Batch) -> jax.Array:
        """The tensor of each image."""
        return noise[batch.index]

    def moved(
        self, noise: jax.Array, batch: Batch, delta: jax.Array, grad: jax.Array, project: Project,
        axis_name: str | None = None,
    ) -> jax.Array:  # fmt: skip
        """A step from the feasible perturbation, made feasible again."""
        index, rows = gathered((batch.index, project(delta - self.step * jnp.sign(grad))), axis_name)
        return noise.at[index].set(rows)


@flax.struct.dataclass
class GeneratorState:
    """What a generator carries from update to update.

    Attributes:
        texture: of the classes, its other input, float32 [K, H, W, C] in units of [0, 1]; never moved.
        params: its weights.
        opt_state: the state of their optimizer; None where it is not trained any more.
    """

    texture: jax.Array
    params: Any
    opt_state: Any


@dataclass(frozen=True)
class Generated:
    """A generator, moved by Adam; it asks for no index, so the images may be any.

    Attributes:
        eps: budget of a value in units of [0, 1], see `amplitude`.
    """

    eps: float

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> GeneratorState:
        """Weights with which it gives the textures."""
        params = _generator_weights(key, texture[:1], texture[:1])
        return GeneratorState(texture, params, optax.adam(LEARNING_RATE).init(params))

    def wanted(self, noise: GeneratorState, batch: Batch) -> jax.Array:
        """Eps tanh(G(x, s_y))."""
        before: Any = Generator().apply(noise.params, batch.x, noise.texture[batch.y] / self.eps)
        return self.eps * jnp.tanh(before)

    def moved(
        self, noise: GeneratorState, batch: Batch, delta: jax.Array, grad: jax.Array, project: Project,
        axis_name: str | None = None,
    ) -> GeneratorState:  # fmt: skip
        """A step of Adam."""
        _, pull_back = jax.vjp(lambda params: self.wanted(replace(noise, params=params), batch), noise.params)
        updates, opt_state = optax.adam(LEARNING_RATE).update(
            averaged(pull_back(grad)[0], axis_name), noise.opt_state, noise.params
        )
        return GeneratorState(noise.texture, optax.apply_updates(noise.params, updates), opt_state)


_generator_weights = jax.jit(Generator().init)


@dataclass(frozen=True)
class Summed:
    """A sum of parametrisations, each with a weight.

    Attributes:
        parts: what is summed; each moves by the gradient alone, as `SampleWise` does not.
        weights: one for each part.
    """

    parts: tuple[Parametrisation, ...]
    weights: tuple[float, ...]

    def start(self, key: jax.Array, texture: jax.Array, labels: jax.Array, secret: bytes = b"") -> tuple[Any, ...]:
        """What each part starts from."""
        keys = jax.random.split(key, len(self.parts))
        return tuple(part.start(own, texture, labels, secret) for part, own in zip(self.parts, keys, strict=True))

    def wanted(self, noise: tuple[Any, ...], batch: Batch) -> jax.Array:
        """The weighted sum of the parts."""
        parts = zip(self.parts, noise, self.weights, strict=True)
        return sum((weight * part.wanted(own, batch) for part, own, weight in parts), jnp.zeros(()))

    def moved(
        self, noise: tuple[Any, ...], batch: Batch, delta: jax.Array, grad: jax.Array, project: Project,
        axis_name: str | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Each part's step by the gradient, whose sign no weight changes."""
        parts = zip(self.parts, noise, strict=True)
        return tuple(part.moved(own, batch, delta, grad, project, axis_name) for part, own in parts)


def _codes(method: Method, eps: float, channels: int) -> Summed:
    """A placed code over a class-wise perturbation.

    In colour the code has red against green: natural images have little of that, so few tiles are found soon, and the
    class's texture keeps nearly all of the image, as small networks and JPEG need it. Each has the whole budget where
    it is, since half as strong everywhere neither would be left by JPEG: what is wanted beyond the budget is cut off,
    and the code's weight decides where it lies; a class's tensor may be twice the budget.
    """
    colour = (1.0, -1.0, 0.0) if channels == 3 else (1.0,) * channels
    code = Placed(eps, colour, method.code_side, method.code_patterns, method.code_share, method.code_cell)
    return Summed((code, ClassWise(eps, method.step_size * eps)), (4.0, 1.0))


def _layered(method: Method, eps: float, channels: int) -> Summed:
    """A class-wise perturbation and a code of brightness everywhere, half the budget each, under the tiles of `_codes`.

    No value is left to one of them alone, so a small network finds the texture all over the image, and grey images
    still have the code once class means are subtracted. At 8/255 neither half would be found before the picture.
    """
    tiles, texture = _codes(method, eps, channels).parts
    brightness = Placed(eps, (1.0,) * channels, method.code_side, method.code_patterns, label="code of brightness")
    return Summed((tiles, brightness, texture), (4.0, 0.5, 0.5))


# By the names that `Method.parametrisation` takes: (method, budget of a value, channels) -> parametrisation.
PARAMETRISATIONS: dict[str, Callable[[Method, float, int], Parametrisation]] = {
    "class-wise": lambda method, eps, channels: ClassWise(eps, method.step_size * eps),
    "sample-wise": lambda method, eps, channels: SampleWise(method.step_size * eps),
    "generator": lambda method, eps, channels: Generated(eps),
    "codes": _codes,
    "layered": _layered,
}


def parametrise(method: Method, shape: tuple[int, ...]) -> Parametrisation:
    """The method's parametrisation for images [H, W, C] of this shape."""
    return PARAMETRISATIONS[method.parametrisation](method, amplitude(method.eps, method.norm, shape), shape[-1])


def initial_noise(
    key: jax.Array, method: Method, start: jax.Array, images: Any, labels: Any, surrogates: Sequence[Any],
    optimizers: Sequence[optax.GradientTransformation], secret: bytes = b"",
) -> NoiseState:  # fmt: skip
    """The state before the first update.

    Args:
        key: PRNG key of a generator's and the surrogates' weights.
        method: settings.
        start: classes' textures, float32 [K, H, W, C] in units of [0, 1].
        images: originals [N, H, W, C]; what surrogates take from images before they train, they take from these.
        labels: int32, of the images that the state holds noise for.
        surrogates: networks of the feature distance.
        optimizers: one for each.
        secret: from which codes and their places follow, where the method has any.
    """
    keys = [jax.random.fold_in(jax.random.fold_in(key, 0), i) for i in range(len(surrogates))]
    states = tuple(
        initial_state(prepared(module, initial_variables(module, own, images.shape[1:]), images), optimizer)
        for module, own, optimizer in zip(surrogates, keys, optimizers, strict=True)
    )
    noise = parametrise(method, images.shape[1:]).start(jax.random.fold_in(key, 3), start, labels, secret)
    return NoiseState(jnp.zeros((), jnp.int32), noise, states)
