"""DUNE: a targeted adversarial perturbation against an ensemble, and one shift of the colours for each class.

Wang et al., Dual-branch Robust Unlearnable Examples, ICML 2026 (arXiv 2605.01718). Two branches, each by itself, push
an image towards the class g(y) = y + 3 mod K of several networks f_m that were trained on the originals:

    delta_s:  min_{|delta|_inf <= eps} sum_m l(f_m(x + delta), g(y)), by projected gradient descent, for each image
    delta_c:  min_c E_x [sum_m l(f_m(x + c), g(y)) / M + max(0, P - PSNR(x + c, x))], c one value a channel, for each
              class, by particle swarm optimisation (g and the terms' numbers are those of the published code)

and the release is x + delta_s + delta_c. Of the published penalty PSNR below P = 20 dB is here; SSIM below 0.8 and
LPIPS above 0.03 are left out, the latter since it needs a network of its own, so that colours may go further.

`dune` is bound as published: delta_s by 8/255, delta_c by its penalty, hence by no radius. `dune-linf` keeps the sum
within a radius, half of it for either branch, which is our choice: the paper has no such version.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.pgd import descend, make_gradient, perturb
from ugejax.baselines.release import release
from ugejax.baselines.surrogate import clean_checkpoints
from ugejax.compiler import compiled
from ugejax.reporting import Report
from ugejax.training import decode

RADIUS = 8 / 255  # of delta_s
REACH = 0.1  # of the particles' first colours, and of their first steps a tenth of that
INERTIA, PULL = 0.5, 0.3  # of a particle's last step; of its own best colour and of the best of all


@dataclass(frozen=True)
class DuneSettings:
    """Settings of DUNE; the defaults are those of the published code where nothing else is said.

    Attributes:
        surrogate: network (published code: r18).
        epochs: of its training on the originals.
        checkpoints: M, of that training, evenly spaced, the end among them.
        batch_size: images a step of the noise.
        pgd_steps: steps of the noise.
        step_size: as a share of its radius (published code: 0.5/255 of 8/255).
        particles: of the search for a colour.
        moves: of each.
        images: of a class that a colour is judged by (published code: 1000).
        psnr: P in dB.
    """

    surrogate: str = "cnn"
    epochs: int = 15
    checkpoints: int = 5
    batch_size: int = 128
    pgd_steps: int = 30
    step_size: float = 0.0625
    particles: int = 10
    moves: int = 10
    images: int = 100
    psnr: float = 20.0


def target(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """g(y): the class three further on, the offset of the published code."""
    return (labels + 3) % num_classes


def dual_branch(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: DuneSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """DUNE as published; see `Baseline`."""
    noise, colours = _branches(key, images, labels, num_classes, RADIUS, None, settings, report)
    return release(images, noise + colours[labels][:, None, None], eps=eps, norm="none")


def dual_branch_within(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: DuneSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """DUNE within a radius; see `Baseline`."""
    noise, colours = _branches(key, images, labels, num_classes, eps / 2, eps / 2, settings, report)
    return release(images, noise + colours[labels][:, None, None], eps=eps, norm="linf")


def _branches(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, radius: float, reach: float | None,
    settings: DuneSettings, report: Report,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """delta_s float32 [N, H, W, C] within a radius, and delta_c float32 [K, C] within +-reach, None for its penalty."""
    train_key, noise_key, colour_key = jax.random.split(key, 3)
    module, weights = clean_checkpoints(
        train_key, settings.surrogate, images, labels, num_classes,
        epochs=settings.epochs, checkpoints=settings.checkpoints, report=report,
    )  # fmt: skip

    def loss(weights: Any, key: jax.Array, x_u: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(module.apply(weights, x_u, train=False), y)

    of_batch = functools.partial(
        descend, make_gradient(loss), weights,
        eps=radius, step_size=settings.step_size * radius, steps=settings.pgd_steps,
    )  # fmt: skip
    wanted = target(labels, num_classes)
    noise = perturb(
        of_batch, noise_key, images, wanted, np.zeros(images.shape, np.float32), batch_size=settings.batch_size,
        report=report,
    )  # fmt: skip

    @compiled
    def losses(weights, x, y):
        return loss(weights, noise_key, x, y)

    def judge(colour: np.ndarray, of_class: int) -> float:
        """What a colour costs: mean loss of the ensemble, and what its PSNR lacks, over some images of the class."""
        members, total = np.flatnonzero(labels == of_class)[: settings.images], 0.0
        for start in range(0, len(members), settings.batch_size):
            # Filled up from the front, so that one program does.
            index = np.resize(members[start : start + settings.batch_size], settings.batch_size)
            count = min(settings.batch_size, len(members) - start)
            x = decode(images[index])
            x_u = np.clip(x + colour, 0, 1)
            answers = [np.asarray(losses(one, jnp.asarray(x_u), jnp.asarray(wanted[index])))[:count] for one in weights]
            short = np.maximum(0, settings.psnr - psnr(x_u - x)[:count]) if reach is None else 0
            total += float((np.mean(answers, axis=0) + short).sum())
        return total / len(members)

    colours = np.zeros((num_classes, images.shape[-1]), np.float32)
    for number, of_class in enumerate(np.unique(labels)):
        colours[of_class] = swarm(
            jax.random.fold_in(colour_key, int(of_class)), functools.partial(judge, of_class=int(of_class)),
            images.shape[-1], settings, REACH if reach is None else reach, bounded=reach is not None,
        )  # fmt: skip
        report("colours", number + 1, len(np.unique(labels)), {"largest": float(np.abs(colours[of_class]).max())})
    return noise, colours


def psnr(difference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, float64 [N], of differences [N, H, W, C] of images in [0, 1]; at most 100."""
    square = np.square(difference.astype(np.float64)).mean(axis=(1, 2, 3))
    return -10 * np.log10(np.maximum(square, 1e-10))


def swarm(
    key: jax.Array, judge: Callable[[np.ndarray], float], dimensions: int, settings: DuneSettings, reach: float, *,
    bounded: bool,
) -> np.ndarray:  # fmt: skip
    """The point of the least cost that particles find, float32 [dimensions].

    Each goes on by half of its last step, and is drawn to its own best point and to the best of all. As in the
    published code nothing of a step is random.

    Args:
        key: PRNG key of where they begin.
        judge: (point) -> cost.
        dimensions: of a point.
        settings: number of particles and of their moves.
        reach: they begin within +- this.
        bounded: whether they stay there.
    """
    place_key, step_key = jax.random.split(key)
    shape = (settings.particles, dimensions)
    places = np.asarray(jax.random.uniform(place_key, shape, minval=-reach, maxval=reach))
    steps = np.asarray(jax.random.uniform(step_key, shape, minval=-reach / 10, maxval=reach / 10))
    best, costs = places, np.full(settings.particles, np.inf)
    for _ in range(settings.moves):
        found = np.array([judge(place) for place in places])
        better = found < costs
        best, costs = np.where(better[:, None], places, best), np.where(better, found, costs)
        steps = INERTIA * steps + PULL * (best - places) + PULL * (best[costs.argmin()] - places)
        places = places + steps
        places = np.clip(places, -reach, reach) if bounded else places
    return best[costs.argmin()].astype(np.float32)


DUNE = BaselineMethod(
    run=dual_branch,
    settings=DuneSettings(),
    summary="targeted noise and a colour for each class, 20 dB (Wang et al. 2026)",
    norm="none",
    eps=None,
    surrogates=True,
)
DUNE_LINF = BaselineMethod(
    run=dual_branch_within,
    settings=DuneSettings(),
    summary="the same within a radius",
    norm="linf",
    eps=8 / 255,
    surrogates=True,
)
