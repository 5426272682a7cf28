"""A hacker without a network: features of whitened random patches, and ridge regression in closed form.

He knows nothing of the method. What gradient descent finds first, and stops at, is no shortcut for who solves for all
weights at once, and whitening takes the strong smooth waves down to the size of everything else.

Sources: Coates, Ng & Lee, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011
(whitened patches, two thresholded polarities, sums over quadrants); Thiry et al., "The unreasonable effectiveness of
patches in deep convolutional kernels methods", ICLR 2021 (patches drawn and not learned). Sizes are our choice; floor
and penalty are those that got most from a release of CIFAR-10, as a hacker finds who has test images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ugejax.batches import in_pieces
from ugejax.training import decode

SIDE = 6  # of a patch
FILTERS = 512
SAMPLES = 20_000  # patches whose covariance is whitened
FLOOR = 0.1  # what is added to its eigenvalues, as a share of their mean: more of it leaves smooth waves larger
THRESHOLD = 0.5  # of a filter's answer, in its standard deviations
GRID = 2  # sums over so many parts along each axis
PENALTY = 0.3  # for each image, of features of variance 1


def ridge(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, *, seed: int = 0, num_classes: int
) -> np.ndarray:
    """What a ridge regression that is fitted to images and labels says of test images.

    Args:
        images: uint8, or float32 in units of [0, 1], [N, H, W, C].
        labels: int32 [N].
        test_images: likewise, [M, H, W, C].
        seed: of the patches.
        num_classes: K.

    Returns:
        float64 [M, K], the largest for the class that it takes an image for.
    """
    kernel, bias = random_filters(images, seed)
    train, test = (_features(some, kernel, bias) for some in (images, test_images))
    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, test = (train - mean) / scale, (test - mean) / scale
    targets = np.eye(num_classes)[labels]
    offset = targets.mean(axis=0)
    return (test @ _weights(train, targets - offset)).astype(np.float64) + offset


def random_filters(images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Filters from whitened random patches of images [N, H, W, C], float32 [s, s, C, F], and their biases [F].

    A filter's answer is the inner product of a whitened patch of the image with one that was drawn, whose length is 1.
    """
    rng, (n, h, w, c) = np.random.default_rng(seed), images.shape
    side = min(SIDE, h, w)
    index = rng.integers(0, n, SAMPLES)
    rows, columns = rng.integers(0, h - side + 1, SAMPLES), rng.integers(0, w - side + 1, SAMPLES)
    within = np.arange(side)
    at = index[:, None, None], rows[:, None, None] + within[:, None], columns[:, None, None] + within
    patches = decode(images[at]).reshape(SAMPLES, -1).astype(np.float64)
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(patches.T, bias=True))
    whiten = vectors / np.sqrt(np.maximum(values, 0) + FLOOR * values.mean() + 1e-12) @ vectors.T
    chosen = (patches[:FILTERS] - mean) @ whiten
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-12
    kernel = whiten @ chosen.T  # [d, F]
    return kernel.reshape(side, side, c, -1).astype(np.float32), (-mean @ kernel).astype(np.float32)


def _features(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Mean excess of each filter's answer over the threshold, upwards and downwards, in each part: [N, 2 F GRID^2]."""
    run = jax.jit(_excess)
    found = in_pieces(lambda part, _: np.asarray(run(decode(images[part]), kernel, bias)), len(images), 100)
    return np.concatenate([features for _, features in found])


def _excess(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    answers = bias + jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=jax.lax.Precision.HIGHEST
    )
    both = jnp.maximum(jnp.concatenate([answers, -answers], axis=-1) - THRESHOLD, 0)
    parts = [half for rows in jnp.array_split(both, GRID, axis=1) for half in jnp.array_split(rows, GRID, axis=2)]
    return jnp.concatenate([part.mean(axis=(1, 2)) for part in parts if part.size], axis=-1)


def _weights(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """W with the least |F W - T|^2 + PENALTY N |W|^2 of F [N, D] and T [N, K]: [D, K], by the smaller system."""
    n, d = features.shape
    if n < d:
        gram = features @ features.T
        return features.T @ _solved(gram, targets, n)
    return _solved(features.T @ features, features.T @ targets, n)


def _solved(gram: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    gram = gram.astype(np.float64)
    gram[np.diag_indices(len(gram))] += PENALTY * count
    return cho_solve(cho_factor(gram, lower=True, overwrite_a=True), right).astype(np.float32)
