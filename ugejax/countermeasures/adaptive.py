"""Counter-measures of a hacker who knows the method and all its code, but not the key.

They need the labels, and so change the training images only; the test images stay as they are. All work on the
release alone.
"""

import numpy as np


def subtract_class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Replace every class's mean image by the mean of all: what is common to a class is gone."""
    x = images.astype(np.float64)
    means = np.stack([x[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    return _to_uint8(x - means[labels] + x.mean(axis=0))


def orthogonal_projection(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Project out the directions in pixel space that tell the classes apart linearly.

    After Sandoval-Segura et al., "What can we learn from unlearnable datasets?", NeurIPS 2023. They project out
    the weights of a logistic regression; here it is those of its closed-form relative, the linear discriminant
    with a ridge of a hundredth of the mean variance, and the class means' deviations too: weights alone leave part
    of the means apart.
    """
    x = images.reshape(len(images), -1).astype(np.float64)
    centred = x - x.mean(axis=0)
    covariance = centred.T @ centred / len(x)
    covariance += np.trace(covariance) / len(covariance) * 0.01 * np.eye(len(covariance))
    # The deviations of K classes add up to nothing: K - 1 of them span them all.
    deviations = np.stack([centred[labels == label].mean(axis=0) for label in range(labels.max())])
    directions = np.linalg.qr(np.concatenate([np.linalg.solve(covariance, deviations.T), deviations.T], axis=1))[0]
    return _to_uint8(x - centred @ directions @ directions.T).reshape(images.shape)


def whitened_key_recovery(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    patch: int = 4,
    hidden: float = 1 / 3,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Estimate a secret subspace per patch position from second moments, and project it out.

    The covariance of the class means' deviations (what class-wise noise adds) is whitened by the covariance within
    classes (what natural images have); the strongest directions of the quotient are the estimate of range(Q).

    Args:
        images: released images, uint8 [N, H, W, C].
        labels: int [N].
        patch: side of the patches that the hacker tries; images that do not divide into them stay as they are.
        hidden: share of each patch's dimensions that is projected out; keyed-linear hides a third.
        reference: natural images of the same kind, uint8, that the hacker may have; their covariance then stands
            in for the one within classes, and the release's own for that of the means.
    """
    n, h, w, c = images.shape
    if h % patch or w % patch:
        return images
    cut = _patches(images, patch)
    within = cut - np.stack([cut[labels == k].mean(axis=0) for k in range(labels.max() + 1)])[labels]
    signal = cut - cut.mean(axis=0)
    if reference is not None:
        natural = _patches(reference, patch)
        within = natural - natural.mean(axis=0)
    removed = max(1, round(hidden * cut.shape[-1]))
    result = np.empty_like(cut)
    for position in range(cut.shape[1]):
        noise_free = np.cov(within[:, position].T) + 1e-2 * np.eye(cut.shape[-1])
        values, vectors = np.linalg.eigh(noise_free)
        whiten = vectors / np.sqrt(values)
        quotient = whiten.T @ np.cov(signal[:, position].T) @ whiten
        strongest = np.linalg.eigh(quotient)[1][:, -removed:]
        # A direction u of whitened space is the pattern C^(1/2) u in pixels.
        basis = np.linalg.qr((vectors * np.sqrt(values)) @ strongest)[0]
        centre = cut[:, position].mean(axis=0)
        deviation = cut[:, position] - centre
        result[:, position] = centre + deviation - deviation @ basis @ basis.T
    shape = (n, h // patch, w // patch, patch, patch, c)
    return _to_uint8(result.reshape(shape).swapaxes(2, 3).reshape(n, h, w, c))


def _patches(images: np.ndarray, patch: int) -> np.ndarray:
    n, h, w, c = images.shape
    x = images.astype(np.float64).reshape(n, h // patch, patch, w // patch, patch, c)
    return x.swapaxes(2, 3).reshape(n, (h // patch) * (w // patch), patch * patch * c)


def _to_uint8(x: np.ndarray) -> np.ndarray:
    return np.clip(np.round(x), 0, 255).astype(np.uint8)
