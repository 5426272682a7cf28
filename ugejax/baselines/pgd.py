"""Projected gradient descent on the perturbations of image batches: the loop that most baselines share.

On an accelerator all steps on a batch are one program. On a CPU, where a compiled loop over convolutions is several
times slower, one gradient and one step are, and the loop over steps and networks is Python's. So is the loop over
batches, which fetches what came of one while the next is worked on.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.compiler import compiled, on_cpu
from ugejax.constraints.budget import box, project_l2, project_linf
from ugejax.perturbations.parametrisation import of_classes
from ugejax.reporting import Report
from ugejax.training import decode

# loss(context, key, x_u float [B, H, W, C] in [0, 1], y) -> float [...]: to be minimised, not reduced
Loss = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]
# gradient(context, key, x, y, delta) -> (gradient of the summed loss, shaped like delta; mean loss)
Gradient = Callable[..., tuple[jax.Array, jax.Array]]


def make_gradient(loss: Loss) -> Gradient:
    """The compiled gradient of a loss of x + delta with respect to delta.

    Args:
        loss: loss(context, key, x_u, y) with whatever it needs beside the batch, such as weights, in the context. The
            loss of one example must not depend on another's image: networks run in eval mode.

    Returns:
        gradient(context, key, x float [B, H, W, C], y, delta) -> (gradient of the sum of the losses, their mean).
    """

    @compiled
    def gradient(context, key, x, y, delta):
        def total(delta):
            losses = loss(context, key, x + delta, y)
            return losses.sum(), losses.mean()

        return jax.grad(total, has_aux=True)(delta)

    return gradient


@functools.partial(jax.jit, static_argnames="norm")
def descent_step(
    delta: jax.Array,
    grad: jax.Array,
    x: jax.Array,
    *,
    eps: float,
    step_size: float,
    norm: Literal["linf", "l2"] = "linf",
) -> jax.Array:
    """One step of steepest descent in the ball, and back to valid images.

    "linf": Pi(delta - alpha sign(g)); "l2": Pi(delta - alpha g / |g|_2), per example (Madry et al., ICLR 2018, arXiv
    1706.06083).

    Args:
        delta: float [B, H, W, C] in units of [0, 1].
        grad: shaped like delta; only its direction counts.
        x: originals, float [B, H, W, C] in [0, 1].
        eps: radius of the ball.
        step_size: alpha, in units of [0, 1].
        norm: of the ball and of the step.

    Returns:
        Shaped like delta.
    """
    if norm == "linf":
        return box(project_linf(delta - step_size * jnp.sign(grad), eps), x)
    direction = grad / (jnp.sqrt(jnp.sum(jnp.square(grad), axis=(1, 2, 3), keepdims=True)) + 1e-12)
    return box(project_l2(delta - step_size * direction, eps), x)


def descend(
    gradient: Gradient,
    contexts: Sequence[Any],
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    delta: jax.Array,
    *,
    eps: float,
    step_size: float,
    steps: int,
    norm: Literal["linf", "l2"] = "linf",
) -> tuple[jax.Array, jax.Array]:
    """Several descent steps on one batch, each along the gradient summed over the contexts.

    Args:
        gradient: from `make_gradient`.
        contexts: one for each network of an ensemble; their shapes must agree.
        key: PRNG key; every step folds in its number.
        x: originals, float [B, H, W, C] in [0, 1].
        y: labels, as the loss takes them.
        delta: where to start, brought to valid images first.
        eps: radius of the ball.
        step_size: in units of [0, 1].
        steps: at least 1.
        norm: of the ball.

    Returns:
        (delta, mean loss before the last step).
    """
    if not on_cpu():
        return _descended(gradient, contexts, key, x, y, delta, eps, step_size, steps=steps, norm=norm)
    delta, loss = box(delta, x), jnp.zeros(())
    for step in range(steps):
        delta, loss = _moved(gradient, contexts, key, x, y, delta, step, eps, step_size, norm)
    return delta, loss


def _moved(gradient, contexts, key, x, y, delta, step, eps, step_size, norm) -> tuple[jax.Array, jax.Array]:
    """One step along the gradient summed over the contexts, and the mean loss before it."""
    step_key = jax.random.fold_in(key, step)
    grads, losses = zip(*(gradient(context, step_key, x, y, delta) for context in contexts), strict=True)
    delta = descent_step(delta, functools.reduce(jnp.add, grads), x, eps=eps, step_size=step_size, norm=norm)
    return delta, functools.reduce(jnp.add, losses) / len(losses)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("steps", "norm"))
def _descended(gradient, contexts, key, x, y, delta, eps, step_size, *, steps, norm) -> tuple[jax.Array, jax.Array]:
    """All steps of `descend` as one program."""

    def step(number, carried):
        return _moved(gradient, contexts, key, x, y, carried[0], number, eps, step_size, norm)

    return jax.lax.fori_loop(0, steps, step, (box(delta, x), jnp.zeros(())))


def batches(n: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """The indices 0 to n - 1 in batches of one length, which keeps one compiled shape.

    Yields:
        (int [min(size, n)], how many of them count): the last batch is filled up from the front.
    """
    size = min(size, n)
    for start in range(0, n, size):
        yield np.arange(start, start + size) % n, min(size, n - start)


def perturb(
    of_batch: Callable[..., tuple[jax.Array, jax.Array]],
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray,
    *,
    batch_size: int,
    report: Report = lambda *_: None,
) -> np.ndarray:
    """Sample-wise perturbations of a whole image set, batch by batch.

    Args:
        of_batch: of_batch(key, x float [B, H, W, C], y int32 [B], delta) -> (delta, loss).
        key: PRNG key; every batch folds in its first index.
        images: originals, uint8 [N, H, W, C].
        labels: int32 [N].
        noise: where to start, float32 [N, H, W, C].
        batch_size: images a batch.
        report: progress.

    Returns:
        float32 [N, H, W, C].
    """
    result = np.empty(images.shape, np.float32)

    def fetch(index, count, delta, loss):
        result[index[:count]] = np.asarray(delta)[:count]
        report("perturbation", int(index[count - 1]) + 1, len(images), {"loss": float(loss)})

    before = None
    for index, count in batches(len(images), batch_size):
        batch_key = jax.random.fold_in(key, index[0])
        delta, loss = of_batch(batch_key, decode(jnp.asarray(images[index])), jnp.asarray(labels[index]), noise[index])
        if before is not None:  # fetched now, while the device works on this one
            fetch(*before)
        before = index, count, delta, loss
    if before is not None:
        fetch(*before)
    return result


def perturb_classes(
    of_batch: Callable[..., tuple[jax.Array, jax.Array]],
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    noise: jax.Array,
    *,
    batch_size: int,
) -> jax.Array:
    """Class-wise perturbations after one pass over an image set; no batch waits for the device.

    As in the published code of EM a batch moves the noise of a class to the mean of what its members would move it to.

    Args:
        of_batch: as for `perturb`.
        key: PRNG key of every batch.
        images: originals, uint8 [N, H, W, C].
        labels: int32 [N].
        order: of the images, int [N].
        noise: where to start, float32 [K, H, W, C].
        batch_size: images a batch.

    Returns:
        Shaped like the noise.
    """
    for places, count in batches(len(images), batch_size):
        index = order[places]
        y = jnp.asarray(labels[index])
        delta, _ = of_batch(key, decode(jnp.asarray(images[index])), y, noise[y])
        noise = _means_of_classes(noise, delta, y, count)
    return noise


@jax.jit
def _means_of_classes(noise: jax.Array, delta: jax.Array, y: jax.Array, count: int) -> jax.Array:
    """The mean of each class among the first `count` of a batch, the noise itself for a class that is not there."""
    counted = (jnp.arange(len(y)) < count).astype(delta.dtype)
    column = counted[:, None, None, None]
    sums, members = (of_classes(part, y, len(noise)) for part in (column * delta, column))
    return jnp.where(members > 0, sums / jnp.maximum(members, 1), noise)


def uniform_noise(key: jax.Array, shape: tuple[int, ...], eps: float) -> np.ndarray:
    """Values drawn uniformly from [-eps, eps], float32."""
    return np.asarray(jax.random.uniform(key, shape, minval=-eps, maxval=eps))
