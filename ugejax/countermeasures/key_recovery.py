"""A hacker who estimates from second moments where the perturbation lives, and projects it out of every image."""

import math

import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh

from ugejax.countermeasures.class_means import class_textures
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.natural import Natural, natural_statistics
from ugejax.patches import patchify, unpatchify
from ugejax.training import decode

# Directions in which the release has at least so many times the variance of natural images are taken for the
# perturbation's: of whole images, whose directions are many and roughly estimated, and of patches. On CIFAR-10's
# originals (5,000, against 2,000 references) few reach either.
IMAGE_EXCESS = 6.0
PATCH_EXCESS = 2.0
CANDIDATES = 256


def recover_key(data: HackerData) -> HackerData:
    """Project the perturbation's estimated directions out of training and test images.

    First of whole images: the textures of the classes, and what stands out of the covariance whitened by that of
    natural images. Then of patches, position by position, which is where the keyed linear forms hide: the strongest
    generalised eigenvectors of the two covariances, at most half of a patch's dimensions.
    """
    x, reference = decode(data.images), decode(data.reference)
    shape = x.shape[1:]
    natural = natural_statistics(reference)
    noise = natural.white_noise(x)
    scale = np.sqrt(natural.variance + noise)
    directions = _image_directions(x, reference, data.labels, natural, scale, noise)

    def without_image_directions(images: np.ndarray) -> np.ndarray:
        images = decode(images)
        found = (natural.spectrum(images) / scale).reshape(len(images), -1) @ directions @ directions.T
        return images - natural.deviation(found.reshape(-1, *shape) * scale).astype(np.float32)

    data, reference = data.with_all_images(without_image_directions), without_image_directions(reference)
    side = math.gcd(4, *shape[:2])  # the keyed forms' patches
    mean = reference.mean(axis=0)
    projections = _patch_projections(_cut(data.images - mean, side), _cut(reference - mean, side))

    def without_patch_directions(images: np.ndarray) -> np.ndarray:
        found = np.einsum("npi,pij->npj", _cut(images - mean, side), projections, optimize=True)
        return images - np.asarray(unpatchify(jnp.asarray(found), side, shape), np.float32)

    return data.with_all_images(without_patch_directions)


def _image_directions(
    x: np.ndarray, reference: np.ndarray, labels: np.ndarray, natural: Natural, scale: np.ndarray, noise: float
) -> np.ndarray:
    """Orthonormal directions [D, n] of whole images, in the whitened spectrum."""

    def whitened(images: np.ndarray) -> np.ndarray:
        return (natural.spectrum(images) / scale).reshape(len(images), -1)

    # What the images of a class share is found far more exactly from their mean than from any covariance.
    textures = whitened(class_textures(x, labels, natural) + natural.mean).T
    most = len(textures) // 4  # textures of very many classes span everything: the strongest directions of all
    textures = (
        np.linalg.qr(textures)[0]
        if textures.shape[1] <= most
        else np.linalg.svd(textures, full_matrices=False)[0][:, :most]
    )
    release, expected = (z - z @ textures @ textures.T for z in (whitened(x), whitened(reference)))
    count = min(CANDIDATES, *release.shape)
    candidates = np.random.default_rng(0).normal(size=(count, release.shape[1]))
    for _ in range(3):  # orthogonal iteration: the rows come to span the leading principal directions
        candidates = np.linalg.qr(release.T @ (release @ candidates.T))[0].T
    of_release, of_natural = (np.cov(candidates @ z.T, bias=True) for z in (release, expected))
    of_natural += (candidates * (noise / scale**2).reshape(-1)) @ candidates.T
    # References are fewer than dimensions: a third of the mean variance is granted to every direction.
    ratios, vectors = eigh(of_release, of_natural + np.eye(count) / 3)
    strongest = candidates.T @ vectors[:, ratios > IMAGE_EXCESS]
    return np.linalg.qr(np.concatenate([textures, strongest], axis=1))[0].astype(np.float32)


def _patch_projections(release: np.ndarray, natural: np.ndarray) -> np.ndarray:
    """Matrices [P, d, d] that take the part to remove out of the row vectors of centred patches [N, P, d]."""
    dimensions = release.shape[-1]
    projections = np.zeros((release.shape[1], dimensions, dimensions))
    for position in range(len(projections)):
        ours, theirs = (np.cov(cut[:, position].T, bias=True) for cut in (release, natural))
        ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
        theirs = theirs + (np.trace(theirs) / dimensions * 1e-4 + 1e-9) * np.eye(dimensions)
        ratios, vectors = eigh(ours, theirs)
        found = vectors[:, ratios > max(PATCH_EXCESS, np.median(ratios))]
        # U' C U = 1 for the natural covariance C: the part of a patch x along U is C U U' x.
        projections[position] = found @ found.T @ theirs
    return projections


def _cut(images: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(patchify(jnp.asarray(images), side))
