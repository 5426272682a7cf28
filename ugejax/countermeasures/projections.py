"""A hacker who projects directions of pixel space out of every image: those that tell the classes apart, or random."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
from scipy.linalg import orth

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.patches import patchify, unpatchify
from ugejax.training import decode


def orthogonal_projection(data: HackerData) -> HackerData:
    """Project out the directions that tell the classes apart linearly.

    Sandoval-Segura et al., "What can we learn from unlearnable datasets?", NeurIPS 2023: W [d, K] of a logistic
    regression on the pixels, an orthonormal basis Q of its columns, x - Q Q' x. They project training images alone;
    here test images are projected too, which costs them K - 1 of d dimensions and spares the network a component that
    it has never seen.
    """
    # Imported late: scikit-learn takes a second to load.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = decode(data.images)
    flat = x.reshape(len(x), -1)
    mean = flat.mean(axis=0)
    with warnings.catch_warnings():
        # The paper stops early as well (20 epochs of SGD): what separates best is found first.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(fit_intercept=False, max_iter=50).fit(flat - mean, data.labels)
    # The columns of softmax regression sum to zero: a QR would add a K-th direction, made of rounding errors.
    directions = orth(model.coef_.T, rcond=1e-4).astype(np.float32)

    def project(images: np.ndarray) -> np.ndarray:
        images = decode(images)
        centred = images.reshape(len(images), -1) - mean
        return images - (centred @ directions @ directions.T).reshape(images.shape)

    return data.with_all_images(project)


def random_projection(data: HackerData) -> HackerData:
    """Keep a random half of the dimensions of every 4x4 patch: what hides in a few of them loses half its strength.

    The projection is drawn from the seed.
    """
    _, h, w, c = data.images.shape
    side = math.gcd(4, h, w)
    size = side * side * c
    gaussian = np.random.default_rng(data.seed).normal(size=(size, max(1, size // 2)))
    basis = np.linalg.qr(gaussian)[0].astype(np.float32)
    mean = decode(data.reference).mean(axis=0)

    def project(images: np.ndarray) -> np.ndarray:
        cut = np.asarray(patchify(jnp.asarray(decode(images) - mean), side))
        return np.asarray(unpatchify(jnp.asarray(cut @ basis @ basis.T), side, (h, w, c))) + mean

    return data.with_all_images(project)
