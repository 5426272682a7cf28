"""Synthetic natural images, what they are released as, and what a hacker has of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import idctn

from ugejax import Batch
from ugejax.countermeasures import HackerData
from ugejax.perturbations.parametrisation import Parametrisation
from ugejax.training import decode

SECRET = bytes(range(32))

CLASSES = 3
SIZE = 16


def labels_of(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32) % CLASSES


def natural(n: int, channels: int = 3, *, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Images with the falling spectrum and the little colour of natural ones, and a class in their broad areas."""
    rng = np.random.default_rng(seed)
    waves = np.maximum(*np.indices((size, size)))[..., None]
    falling = 1 / (1 + waves) ** 1.5
    classes = np.random.default_rng(99).normal(0, 0.15, (CLASSES, size, size, channels)) * (waves <= 3)
    spectrum = (rng.normal(size=(n, size, size, channels)) + classes[labels_of(n)]) * falling
    x = idctn(spectrum, axes=(1, 2), norm="ortho") / np.sqrt((falling**2).sum()) * size
    colours = 0.7 * np.full((channels, channels), 1 / channels) + 0.3 * np.eye(channels)
    return np.clip(np.round(128 + 50 * x @ colours), 0, 255).astype(np.uint8)


def wanted_by(how: Parametrisation, originals: np.ndarray, labels: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """What a parametrisation that starts from a texture and `SECRET` wants of images, float32 [N, H, W, C]."""
    noise = how.start(jax.random.key(0), jnp.asarray(texture), jnp.zeros(0, jnp.int32), SECRET)
    batch = Batch(jnp.asarray(decode(originals)), jnp.asarray(labels), jnp.arange(len(labels)))
    return np.asarray(jax.jit(how.wanted)(noise, batch))


def in_cells(originals: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Images moved by signs [N, H, W, C] as far as cells of 24 levels at random allow, as `keyed-dither` does."""
    room = np.random.default_rng(5).integers(0, 24, originals.shape)
    return np.clip(originals + np.sign(wanted) * np.minimum(8, room), 0, 255).astype(np.uint8)


def data_of(images: np.ndarray, **changes) -> HackerData:
    """A hacker who holds the last of the training images as originals."""
    n, channels = len(images), images.shape[-1]
    test = natural(90, channels, seed=7, size=images.shape[1])
    reference = natural(600, channels, seed=8, size=images.shape[1])
    data = HackerData(images, labels_of(n), test, reference, images[n - 9 :], np.arange(n - 9, n))
    return dataclasses.replace(data, **changes)
