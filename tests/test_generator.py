"""The generator: fully convolutional, starts as the texture, follows gradients, and protects what it never saw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_protect import TINY, protection, toy

from ugejax.authorized import seen
from ugejax.perturbations.generator import GAIN, Generator
from ugejax.perturbations.parametrisation import Generated, GeneratorState
from ugejax.perturbations.start import class_stripes
from ugejax.training import Batch

GENERATOR = dataclasses.replace(TINY, parametrisation="generator", epochs=2, transforms=("crop-flip",))
APPLY = jax.jit(Generator().apply)
REACH = 6  # pixels from the middle of 13x13 to their rim


def randomised(params, seed: int):
    """Weights of which none is zero."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        structure, [leaf + 0.1 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 1), (17, 40, 3), (224, 224, 3)])
def test_any_image_size_will_do(shape):
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = jax.eval_shape(Generator().init, jax.random.key(0), images, images)
    assert jax.eval_shape(Generator().apply, params, images, images).shape == (2, *shape)
    smallest = jax.ShapeDtypeStruct((1, 1, 1, shape[-1]), jnp.float32)
    assert params == jax.eval_shape(Generator().init, jax.random.key(0), smallest, smallest)


def test_it_looks_no_further_than_it_says():
    x, texture = jax.random.uniform(jax.random.key(0), (2, 1, 20, 24, 3))
    params = randomised(jax.jit(Generator().init)(jax.random.key(1), x, texture), 2)
    whole = APPLY(params, x, texture)
    part = APPLY(params, x[:, 2:18, 3:22], texture[:, 2:18, 3:22])
    inside = part[:, REACH:-REACH, REACH:-REACH]
    np.testing.assert_allclose(inside, whole[:, 2 + REACH : 18 - REACH, 3 + REACH : 22 - REACH], atol=1e-4)
    moved = np.asarray(APPLY(params, x.at[0, 10, 12].add(1.0), texture) != whole).any(axis=(0, 3))
    assert moved[10 - REACH : 11 + REACH, 12 - REACH : 13 + REACH].all()
    assert moved.sum() == (2 * REACH + 1) ** 2


def test_untrained_it_gives_the_texture_and_a_step_follows_the_gradient():
    eps, labels = 8 / 255, np.array([2, 0, 1], np.int32)
    texture = class_stripes(b"secret 0", 3, (8, 8, 3), amplitude=eps, period=4)
    generated = Generated(eps)
    state = generated.start(jax.random.key(1), texture, labels)
    batch = Batch(jax.random.uniform(jax.random.key(2), (3, 8, 8, 3)), labels, np.arange(3))
    wanted_of = jax.jit(lambda state: generated.wanted(state, batch))
    wanted = wanted_of(state)
    np.testing.assert_allclose(wanted, eps * np.tanh(GAIN) * np.sign(texture[labels]), rtol=1e-5)
    # Where it is rounded, that is the whole budget: what the class-wise start has.
    np.testing.assert_array_equal(np.round(255 * wanted), np.round(255 * texture[labels]))
    grad = jax.random.normal(jax.random.key(3), wanted.shape)
    step = jax.jit(lambda state: generated.moved(state, batch, wanted, grad, lambda delta: delta))
    products = [float((grad * wanted).sum())]
    for _ in range(3):
        state = step(state)
        products.append(float((grad * wanted_of(state)).sum()))
    assert products == sorted(products, reverse=True) and products[-1] < products[0]
    np.testing.assert_array_equal(state.texture, texture)
    assert float(jnp.abs(wanted_of(state)).max()) <= eps


def test_it_is_trained_on_some_images_and_protects_others(tmp_path):
    images, labels = toy()
    job = protection("keyed-dither", GENERATOR, seed=1)  # with 0 a weight has no gradient
    state = job.learn(images, labels, tmp_path / "whole")
    assert isinstance(state, GeneratorState)
    assert (state.params["params"]["last"]["kernel"] != 0).all()
    with pytest.raises(KeyboardInterrupt):
        job.learn(images, labels, tmp_path / "cut", interrupt)
    again = job.learn(images, labels, tmp_path / "cut")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, again))

    new = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 1)).astype(np.uint8)
    new_labels = np.array([2, 1, 1, 0, 2, 2, 0], np.int32)
    released = job.release(new, new_labels, state)
    assert 0 < np.abs(released.astype(int) - new).max() <= 8
    np.testing.assert_array_equal(seen(job.network.view, released), seen(job.network.view, new))


def interrupt(stage, epoch, *_):
    assert (stage, epoch) == ("perturbation", 1)
    raise KeyboardInterrupt
