"""AR: autoregressive perturbations, one process for every class.

Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, NeurIPS 2022 (arXiv 2206.03693): a
process of class y fills each channel from the upper left, every value from the eight before it in its 3x3 window,

    delta_t = beta_1 delta_{t-1} + ... + beta_8 delta_{t-8},   sum_i beta_i = 1,

from Gaussian starting rows and columns, of which the margin is cut off; the result is scaled to L2 norm 1 (for 32x32
images). The filter (beta, -1) of the process has response zero on it everywhere, and a network finds it at once.

Random coefficients mostly diverge, and some processes are alike. The published coefficients were found by rejection:
bounded on trial starts, and with other processes' filters responding by at least a threshold. Here the first test is
the same, and among the bounded ones those are taken greedily whose least mutual response is largest.
"""

from dataclasses import dataclass

import jax
import numpy as np

from ugejax.baselines.method import BaselineMethod
from ugejax.baselines.release import release, scale_to_l2
from ugejax.errors import UserError
from ugejax.reporting import Report

WINDOW = 3
ATTEMPTS = 10  # draws of 64 processes without a bounded one after which there is no hope


@dataclass(frozen=True)
class ArSettings:
    """Settings of AR; the defaults are those of the published code but for the pool.

    Attributes:
        margin: rows and columns of the start that are cut off.
        trials: starts on which a process must stay bounded.
        bound: largest absolute value on them, where starts are standard normal.
        pool: bounded processes to choose from, for each class.
    """

    margin: int = 4
    trials: int = 3
    bound: float = 5.0
    pool: int = 5


def generate(coefficients: np.ndarray, start: np.ndarray, *, margin: int) -> np.ndarray:
    """Run processes over images.

    Args:
        coefficients: beta of each image and channel in its window, float64 [N, C, 3, 3], the last one unused.
        start: float64 [N, S, T, C]; the first two rows and columns are where the process starts, the rest is replaced.
        margin: rows and columns that are cut off afterwards.

    Returns:
        float64 [N, S - margin, T - margin, C]; values that diverge may overflow.
    """
    signal = np.ascontiguousarray(np.moveaxis(start, 0, -1))  # [S, T, C, N]: what is summed lies side by side
    count, channels = coefficients.shape[:2]
    beta = coefficients.reshape(count, channels, -1).transpose(2, 1, 0)[:-1]  # [8, C, N]
    with np.errstate(over="ignore", invalid="ignore"):
        for row in range(signal.shape[0] - WINDOW + 1):
            for column in range(signal.shape[1] - WINDOW + 1):
                window = signal[row : row + WINDOW, column : column + WINDOW].reshape(-1, channels, count)
                signal[row + WINDOW - 1, column + WINDOW - 1] = (window[:-1] * beta).sum(axis=0)
    return np.moveaxis(signal[margin:, margin:], -1, 0)


def response(coefficients: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """What the filters (beta, -1) of processes give on images, summed over the channels, at every whole window.

    Args:
        coefficients: float64 [M, C, 3, 3].
        noise: float64 [N, H, W, C].

    Returns:
        float64 [N, H - 2, W - 2, M].
    """
    filters = coefficients.copy()
    filters[..., -1, -1] = -1
    windows = np.lib.stride_tricks.sliding_window_view(noise, (WINDOW, WINDOW), axis=(1, 2))  # [N, H-2, W-2, C, 3, 3]
    return np.tensordot(windows, filters, axes=((3, 4, 5), (1, 2, 3)))


def processes(key: jax.Array, num_classes: int, shape: tuple[int, int, int], settings: ArSettings) -> np.ndarray:
    """Coefficients of one process per class, float64 [K, C, 3, 3], bounded on images of shape (H, W, C) and unlike.

    Raises:
        UserError: hardly any process keeps the bound.
    """
    height, width, channels = shape
    size, wanted = (height + settings.margin, width + settings.margin, 1), settings.pool * num_classes
    bounded: list[np.ndarray] = []
    attempt = 0
    while len(bounded) < wanted * channels:  # about one candidate in four is
        draw_key, start_key = jax.random.split(jax.random.fold_in(key, attempt))
        candidates = _normal(draw_key, (64, 1, WINDOW, WINDOW))
        candidates[..., -1, -1] = 0
        candidates /= candidates.sum(axis=(2, 3), keepdims=True)
        starts = _normal(start_key, (settings.trials * len(candidates), *size))
        signals = generate(np.tile(candidates, (settings.trials, 1, 1, 1)), starts, margin=settings.margin)
        with np.errstate(invalid="ignore"):
            largest = np.abs(signals).max(axis=(1, 2, 3)).reshape(settings.trials, -1).max(axis=0)
            bounded.extend(candidates[largest <= settings.bound, 0])
        attempt += 1
        if attempt == ATTEMPTS and not bounded:
            raise UserError(f"ar: no process stays within bound {settings.bound}; set a larger bound")
    pool = np.stack(bounded[: wanted * channels]).reshape(wanted, channels, WINDOW, WINDOW)

    starts = _normal(jax.random.fold_in(key, attempt), (wanted, *size[:2], channels))
    signals = scale_to_l2(generate(pool, starts, margin=settings.margin), 1.0).astype(np.float64)
    mutual = np.stack([np.maximum(response(pool, signal[None]), 0).sum(axis=(0, 1, 2)) for signal in signals])
    mutual = np.minimum(mutual, mutual.T)
    chosen = [0]
    while len(chosen) < num_classes:
        least = mutual[:, chosen].min(axis=1)
        least[chosen] = -1
        chosen.append(int(least.argmax()))
    return pool[chosen]


def autoregressive_noise(
    key: jax.Array, labels: np.ndarray, num_classes: int, shape: tuple[int, int, int], settings: ArSettings,
    *, batch_size: int = 1000,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(noise of L2 norm 1 for every image, float32 [N, H, W, C]; the processes, float64 [K, C, 3, 3])."""
    process_key, start_key = jax.random.split(key)
    coefficients = processes(process_key, num_classes, shape, settings)
    height, width, channels = shape
    noise = np.empty((len(labels), *shape), np.float32)
    for first in range(0, len(labels), batch_size):
        y = labels[first : first + batch_size]
        size = (len(y), height + settings.margin, width + settings.margin, channels)
        start = _normal(jax.random.fold_in(start_key, first), size)
        noise[first : first + batch_size] = scale_to_l2(generate(coefficients[y], start, margin=settings.margin), 1.0)
    return noise, coefficients


def autoregressive(
    key: jax.Array, images: np.ndarray, labels: np.ndarray, num_classes: int, *, eps: float, settings: ArSettings,
    report: Report,
) -> np.ndarray:  # fmt: skip
    """AR; see `Baseline`."""
    height, width, channels = images.shape[1:]
    noise, _ = autoregressive_noise(key, labels, num_classes, (height, width, channels), settings)
    return release(images, eps * noise, eps=eps, norm="l2")


def _normal(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    return np.array(jax.random.normal(key, shape), np.float64)


AR = BaselineMethod(
    run=autoregressive,
    settings=ArSettings(),
    summary="autoregressive process per class (Sandoval-Segura et al. 2022)",
    norm="l2",
    eps=1.0,
    surrogates=False,
)
