"""Placed codes: what tells the class is in the shape of patterns alone, and where they lie is a secret."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugejax import Batch, Method, Protection, build_authorized, class_stripes, new_key, parametrise, seen
from ugejax.perturbations.codes import draw_patterns
from ugejax.perturbations.parametrisation import Summed
from ugejax.training import Recipe
from ugejax.views import default_step

SECRET = bytes(range(32))
CODES = Method(parametrisation="codes")


def batch_of(shape: tuple[int, int, int], n: int, classes: int) -> Batch:
    images = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)
    return Batch(jnp.asarray(images) / 255, jnp.arange(n) % classes, jnp.arange(n))


@functools.partial(jax.jit, static_argnums=(0, 3))
def laid_by(how: Summed, noise, batch: Batch, parts: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """What is wanted, and what some parts of it give."""
    return how.wanted(noise, batch), *(how.parts[part].wanted(noise[part], batch) for part in parts)


def start_of(method: Method, shape: tuple[int, int, int], classes: int, secret: bytes = SECRET, texture=None):
    how = parametrise(method, shape)
    texture = jnp.full((classes, *shape), method.eps) if texture is None else texture
    return how, how.start(jax.random.key(0), texture, jnp.zeros(0, jnp.int32), secret)


@pytest.mark.parametrize(("side", "cell"), [(8, 1), (8, 2), (6, 3)])
def test_patterns_are_balanced_and_differ_at_every_shift_mirrored_or_not(side, cell):
    patterns = draw_patterns(SECRET, 12, side=side, cell=cell).astype(int)
    assert patterns.shape == (12, side, side) and set(np.unique(patterns)) == {-1, 1}
    np.testing.assert_array_equal(patterns.sum(axis=(1, 2)), 0)
    np.testing.assert_array_equal(patterns, patterns[:, ::cell, ::cell].repeat(cell, 1).repeat(cell, 2))
    wide = np.pad(patterns, ((0, 0), (side - 1,) * 2, (side - 1,) * 2))
    for i, pattern in enumerate(patterns):
        windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side), axis=(1, 2))
        like = np.abs(np.einsum("nxyij,kij->nkxy", windows, np.stack([pattern, pattern[:, ::-1]])))
        like[i, 0, side - 1, side - 1] = 0  # itself
        like[i, 1] = 0  # its own mirror image
        assert like.max() <= (0.7 if cell == 1 else 1.0) * side**2


def test_cells_divide_a_pattern():
    with pytest.raises(ValueError, match="cell=3: does not divide side=8"):
        draw_patterns(SECRET, 2, side=8, cell=3)


def test_patterns_have_more_nearly_one_autocorrelation_than_any_that_are_drawn():
    def spread(patterns):
        spectra = np.abs(np.fft.rfft2(patterns, (16, 16))) ** 2
        return float(np.std(spectra, axis=0).mean())

    rng = np.random.default_rng(0)
    anyhow = np.stack([rng.permutation(np.repeat([-1, 1], 32)).reshape(8, 8) for _ in range(12)])
    assert spread(draw_patterns(SECRET, 12, side=8)) < 0.75 * spread(anyhow)


def test_patterns_follow_from_the_secret_alone():
    """Recorded: the same bytes on every release of Python, NumPy and JAX."""
    digest = hashlib.sha256(draw_patterns(SECRET, 20, side=8).tobytes()).hexdigest()
    assert digest == "6a648491d85f43c02e6f6308bb36efdb3bf9589966ba59875c671f848970f25a"
    assert (draw_patterns(SECRET, 20, side=8) != draw_patterns(SECRET[::-1], 20, side=8)).mean() > 0.4


@pytest.mark.parametrize(
    ("shape", "classes"), [((32, 32, 3), 10), ((8, 8, 1), 2), ((16, 12, 1), 200), ((9, 40, 3), 5), ((224, 224, 3), 2)]
)
def test_codes_are_defined_for_every_kind_of_image(shape, classes):
    how, noise = start_of(CODES, shape, classes)
    batch = batch_of(shape, 4, classes)
    wanted, code, stripes = map(np.asarray, laid_by(how, noise, batch, (0, -1)))
    assert wanted.shape == (4, *shape) and (np.abs(wanted) > 0.99 * CODES.eps).all()  # no value is left alone
    np.testing.assert_array_equal(np.sign(wanted), np.where(code != 0, np.sign(code), np.sign(stripes)))


def test_a_few_tiles_of_red_against_green_lie_over_stripes_that_images_of_a_class_share():
    stripes = class_stripes(SECRET, 2, (32, 32, 3), amplitude=CODES.eps, period=14)
    batch = batch_of((32, 32, 3), 60, 2)
    how, noise = start_of(CODES, (32, 32, 3), 2, texture=stripes)
    wanted, code = map(np.asarray, laid_by(how, noise, batch, (0,)))
    np.testing.assert_array_equal(code[..., 0], -code[..., 1])
    assert not code[..., 2].any()
    laid = code != 0
    assert laid[..., 0].mean() == pytest.approx(0.15, abs=0.03)
    np.testing.assert_allclose(np.where(laid, 0, wanted), np.where(laid, 0, np.asarray(stripes)[batch.y]))


def test_layers_share_the_budget_and_brightness_stays_when_the_mean_of_a_class_goes():
    method = Method(parametrisation="layered", eps=16 / 255)
    texture = class_stripes(SECRET, 2, (32, 32, 3), amplitude=method.eps, period=14)
    batch = batch_of((32, 32, 3), 400, 2)
    how, noise = start_of(method, (32, 32, 3), 2, texture=texture)
    wanted, tiles, brightness = (np.asarray(part) / method.eps for part in laid_by(how, noise, batch, (0, 1)))
    beside = tiles[..., 0] == 0
    assert (~beside).mean() == pytest.approx(0.15, abs=0.01)
    np.testing.assert_allclose(np.abs(brightness), 1)
    np.testing.assert_array_equal(brightness[..., 0], brightness[..., 2])
    stripes = np.asarray(texture)[batch.y] / method.eps
    np.testing.assert_allclose(wanted[beside], (brightness + stripes)[beside] / 2, atol=1e-6)
    # The two codes have patterns, places and signs of their own.
    assert (np.asarray(noise[0].patterns) != np.asarray(noise[1].patterns)).mean() > 0.3
    assert abs(np.corrcoef(tiles[..., 0].ravel(), brightness[..., 0].ravel())[0, 1]) < 0.01
    feasible = np.clip(wanted, -1, 1)
    rest = feasible[::2] - feasible[::2].mean(axis=0)  # of one class
    assert np.corrcoef(rest.mean(axis=-1).ravel(), brightness[::2, ..., 0].ravel())[0, 1] > 0.8


def test_a_code_has_no_mean_and_an_image_places_of_its_own():
    whole = Method(parametrisation="codes", code_share=1.0)
    how, noise = start_of(whole, (32, 32, 3), 2)
    placed, noise, batch = how.parts[0], noise[0], batch_of((32, 32, 3), 400, 2)
    wanted_of = jax.jit(placed.wanted)
    wanted = np.asarray(wanted_of(noise, batch))[..., :2] / CODES.eps
    mean = wanted[::2].mean(axis=0)
    assert np.sqrt((mean**2).mean()) < 1.3 / np.sqrt(200)  # what independent signs leave
    one, other = wanted[0].ravel(), wanted[2].ravel()  # of one class
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.15
    again = wanted_of(noise, jax.tree.map(lambda leaf: leaf[5:6], batch))
    np.testing.assert_array_equal(np.asarray(again)[0, ..., :2] / CODES.eps, wanted[5])  # by its index, in any batch
    elsewhere = np.asarray(wanted_of(start_of(whole, (32, 32, 3), 2, SECRET[::-1])[1][0], batch))[..., :2]
    assert abs(np.corrcoef(elsewhere.ravel(), wanted.ravel())[0, 1]) < 0.01


def test_released_within_the_cells_in_any_batch_and_after_optimisation(tmp_path):
    images, labels = np.asarray(255 * batch_of((16, 16, 3), 40, 4).x).round().astype(np.uint8), np.arange(40) % 4
    key = new_key(
        bytes(32), form="keyed-dither", network="mlp", image_shape=(16, 16, 3), num_classes=4,
        step=default_step("keyed-dither", CODES.eps), recipe=Recipe(epochs=1), from_seed=True,
    )  # fmt: skip
    network = build_authorized(key).of_release(bytes(16))
    released, learned = {}, {}
    for epochs in (0, 1):
        method = Method(**(vars(CODES) | {"epochs": epochs, "surrogates": ("mlp",), "batch_size": 20}))
        noise = Protection.by(key, network, method).learn(images, labels.astype(np.int32), tmp_path / str(epochs))
        job = Protection.by(key, network, CODES)  # whatever the noise was learned by
        released[epochs] = job.release(images, labels, noise, batch_size=40)
        np.testing.assert_array_equal(job.release(images, labels, noise, batch_size=7), released[epochs])
        distance = np.abs(released[epochs].astype(int) - images)
        assert distance.mean() > 2 and distance.max() <= 8
        np.testing.assert_array_equal(seen(network.view, released[epochs]), seen(network.view, images))
        learned[epochs] = noise
    assert (released[0] != released[1]).any()
    *codes, texture = zip(learned[0], learned[1], strict=True)
    for drawn, after in codes:  # no gradient moves them
        jax.tree.map(np.testing.assert_array_equal, drawn, after)
    assert (np.asarray(texture[0]) != np.asarray(texture[1])).any()
    # Another release of the same key has other places and patterns.
    jobs = (Protection.by(key, build_authorized(key).of_release(salt), CODES) for salt in (bytes(16), b"1" * 16))
    ours, theirs = (job.learn(images, labels.astype(np.int32), tmp_path / "0")[0] for job in jobs)
    assert (np.asarray(ours.patterns) != np.asarray(theirs.patterns)).mean() > 0.4
    assert (np.asarray(ours.secret) != np.asarray(theirs.secret)).all()
