"""Cutout, mixup and cutmix: where their boxes lie, how they draw, and that labels are mixed as the images are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from ugejax.transforms.mixing import cutmix, cutout, mixup


def is_box(mask) -> bool:
    """Whether a mask [H, W] is a product of an interval of rows and one of columns."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    filled = (mask == np.outer(rows, columns)).all()
    return bool(filled) and all((np.diff(np.flatnonzero(side)) == 1).all() for side in (rows, columns))


@pytest.mark.parametrize("turned", [False, True])
def test_cutout_blackens_a_square_of_half_the_shorter_side_anywhere(turned):
    image = np.random.default_rng(0).uniform(0.1, 1, (11, 8, 3) if turned else (8, 11, 3)).astype(np.float32)
    batch = np.stack([image] * 800)
    out = np.asarray(jax.jit(cutout)(jax.random.key(0), batch))
    black = (out == 0).all(axis=-1)
    np.testing.assert_array_equal(out, np.where(black[..., None], 0, batch))
    assert all(is_box(mask) for mask in black)
    tall, wide = black.any(axis=2).sum(axis=1), black.any(axis=1).sum(axis=1)
    assert (tall.min(), tall.max()) == (2, 4) and (wide.min(), wide.max()) == (2, 4)
    assert len(np.unique(black, axis=0)) > 80  # of the 88 places, most of the 800 draws over all
    # The centre is uniform, so a square is cut off at the top or bottom in 3 of 8 cases: 300, standard deviation 14.
    assert 230 < ((wide if turned else tall) < 4).sum() < 370


def mixing_matrices(transform, count, batch=16):
    """How images and labels are mixed: row i holds the shares of all images in image i, by its pixels and label."""
    # Pixel j of image j alone is lit, so that what is mixed shows in the values.
    x = jnp.eye(batch).reshape(batch, 4, 4, 1)
    keys = jax.random.split(jax.random.key(0), count)
    moved, labels = jax.jit(jax.vmap(lambda key: transform(key, x, jnp.eye(batch))))(keys)
    return np.asarray(moved).reshape(count, batch, batch), np.asarray(labels)


def test_mixup_mixes_labels_as_it_mixes_images_by_uniform_shares():
    of_images, of_labels = mixing_matrices(mixup, 60)
    np.testing.assert_allclose(of_images, of_labels, atol=1e-7)
    own = np.diagonal(of_labels, axis1=1, axis2=2)
    mixed = own < 1
    assert 0.85 < mixed.mean() < 1  # a permutation of 16 leaves 1 in 16 alone
    assert kstest(own[mixed], "uniform").pvalue > 0.01
    assert np.unique(own[0][mixed[0]]).size == mixed[0].sum()  # each image has a share of its own
    partners = np.count_nonzero(of_labels, axis=1)  # in how many images an image has a share: itself and one more
    assert set(np.unique(partners)) <= {1, 2}


@pytest.mark.parametrize("shape", [(12, 12), (12, 20)])
def test_cutmix_pastes_one_box_and_mixes_labels_by_its_area(shape):
    batch, (height, width) = 400, shape
    x = jnp.broadcast_to(jnp.arange(batch)[:, None, None, None] / batch, (batch, height, width, 1))
    moved, labels = (np.asarray(a) for a in jax.jit(cutmix)(jax.random.key(0), x, jnp.eye(batch)))
    owner = np.round(moved[..., 0] * batch).astype(int)
    pasted = owner != np.arange(batch)[:, None, None]
    assert all(is_box(mask) for mask in pasted)
    for image, label in zip(owner, labels, strict=True):
        np.testing.assert_allclose(label, np.bincount(image.ravel(), minlength=batch) / image.size, atol=1e-6)
    tall, wide = pasted.any(axis=2).sum(axis=1), pasted.any(axis=1).sum(axis=1)
    inside = ~pasted[:, [0, -1]].any(axis=(1, 2)) & ~pasted[:, :, [0, -1]].any(axis=(1, 2)) & (tall > 0) & (wide > 0)
    assert inside.sum() > 30
    assert np.abs(tall[inside] / height - wide[inside] / width).max() < 1 / height  # in the image's own proportions
    # Of a box with uniform area lambda, a share of (1 - sqrt(lambda) / 4)^2 lies inside on average: 0.34 in all.
    assert 0.30 < pasted.mean() < 0.38
    assert np.unique(pasted.sum(axis=(1, 2))).size > 20
