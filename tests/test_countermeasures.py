"""Countermeasures against worked constants and third-party references; what all of them have in common."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hacker_examples import SIZE, data_of, natural
from skimage.restoration import denoise_tv_chambolle

from ugejax.countermeasures import (
    COUNTERMEASURES,
    adversarial,
    countermeasure_of,
    gradient_projection,
    learned_purifier,
    parse_countermeasures,
)
from ugejax.countermeasures.adversarial import pgd, worst_ueraser
from ugejax.countermeasures.dp_sgd import clip_and_noise
from ugejax.countermeasures.hacker_data import Pairs, to_uint8
from ugejax.countermeasures.preprocessing import filtered, jpeg, low_pass, non_local_means, total_variation
from ugejax.countermeasures.purifier import purified, purify
from ugejax.errors import UserError
from ugejax.training import decode
from ugejax.transforms import TRANSFORMS
from ugejax.transforms.filters import blur, grey
from ugejax.transforms.quantisation import bit_depth


def test_grey_uses_the_luma_weights_and_keeps_the_shape():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]], np.uint8)
    result = filtered(colours.reshape(1, 1, 5, 3), transform=grey)
    assert result.dtype == np.uint8
    assert result.shape == (1, 1, 5, 3)
    # 0.299 * 255 = 76.245, 0.587 * 255 = 149.685, 0.114 * 255 = 29.07, 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
    np.testing.assert_array_equal(result[0, 0], np.repeat([[76], [150], [29], [255], [18]], 3, axis=1))


def test_bit_depth_rounds_to_the_nearest_of_evenly_spaced_levels():
    levels = np.array([0, 42, 43, 127, 128, 212, 213, 255], np.uint8).reshape(1, 2, 4, 1)
    two, eight = (filtered(levels, transform=functools.partial(bit_depth, bits=bits)) for bits in (2, 8))
    np.testing.assert_array_equal(two.ravel(), [0, 0, 85, 85, 170, 170, 255, 255])
    np.testing.assert_array_equal(eight, levels)


def test_blur_is_the_binomial_kernel_with_repeated_edges():
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 2] = 160
    kernel = np.array([[10, 20, 10], [20, 40, 20], [10, 20, 10]])
    np.testing.assert_array_equal(filtered(image, transform=blur)[0, 1:4, 1:4, 0], kernel)


def test_filters_take_any_number_of_images():
    images = np.arange(2500, dtype=np.int64).reshape(2500, 1, 1, 1).astype(np.uint8)
    np.testing.assert_array_equal(filtered(images, transform=grey), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_at_lower_quality_and_keeps_flat_images(channels):
    noisy = np.random.default_rng(0).integers(0, 256, (4, 16, 16, channels)).astype(np.uint8)
    errors = {q: np.abs(jpeg(noisy, quality=q).astype(int) - noisy).mean() for q in (10, 30, 95)}
    assert errors[10] > errors[30] > errors[95] > 0
    flat = np.full((1, 16, 16, channels), 128, np.uint8)
    np.testing.assert_array_equal(jpeg(flat, quality=10), flat)


def cosine_wave(waves: int, *, size: int = SIZE) -> np.ndarray:
    """100 + 50 times a cosine with that many half waves across the columns, uint8 [1, size, size, 1]."""
    wave = np.cos(np.pi * waves * (np.arange(size) + 0.5) / size)
    return np.round(100 + 50 * np.broadcast_to(wave[None, :, None], (1, size, size, 1))).astype(np.uint8)


def test_low_pass_keeps_long_waves_and_drops_short_ones():
    kept, dropped = (low_pass(cosine_wave(waves), keep=1 / 4).astype(int) for waves in (3, 4))
    assert np.abs(kept - cosine_wave(3)).max() <= 1
    assert np.abs(dropped - 100).max() <= 1
    upright = cosine_wave(4).swapaxes(1, 2)
    assert np.abs(low_pass(upright, keep=1 / 4).astype(int) - 100).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_denoises_like_scikit_image(channels):
    images = natural(3, channels, size=12)
    result = total_variation(images, weight=0.1, steps=20)
    for image, denoised in zip(images, result, strict=True):
        for channel in range(channels):
            expected = 255 * denoise_tv_chambolle(
                image[..., channel].astype(np.float64) / 255, weight=0.1, eps=0, max_num_iter=21
            )
            assert np.abs(denoised[..., channel] - expected).max() <= 0.51


@pytest.mark.parametrize(("channels", "width"), [(1, 8), (3, 7)])
@pytest.mark.parametrize("name", COUNTERMEASURES)
def test_all_keep_shapes_and_leave_their_input_alone(name, channels, width, monkeypatch):
    for setting, small in {"STEPS": 1, "WIDTH": 4}.items():
        monkeypatch.setattr(learned_purifier, setting, small)
    for setting, small in {"WIDTHS": (4, 4, 4), "EPOCHS": 1, "STEPS": 1}.items():
        monkeypatch.setattr(gradient_projection, setting, small)
    data = data_of(natural(90, channels, size=8)).with_all_images(lambda images: images[:, :, :width])
    data = dataclasses.replace(data, reference=data.reference[:, :, :width])
    data = dataclasses.replace(data, own_pairs=lambda: Pairs(data.reference, data.reference))
    before = [array.copy() for array in (data.images, data.labels, data.test_images, data.clean_images)]
    prepared = COUNTERMEASURES[name].prepared(data)
    for array, old in zip((data.images, data.labels, data.test_images, data.clean_images), before, strict=True):
        np.testing.assert_array_equal(array, old)
    for given, got in ((data.test_images, prepared.test_images), (data.clean_images, prepared.clean_images)):
        assert got.shape == given.shape
    assert prepared.images.shape[1:] == data.images.shape[1:]
    assert len(prepared.images) == len(prepared.labels)
    for images in (prepared.images, prepared.test_images):
        assert images.dtype in (np.uint8, np.float32)
        assert np.isfinite(images).all()
    assert set(COUNTERMEASURES[name].augment) <= set(TRANSFORMS)


def test_what_treats_every_image_alike_treats_test_images_and_originals_too():
    images = natural(12)
    data = data_of(images, test_images=images, clean_images=images, clean_indices=np.arange(12))
    for name in ("grey", "jpeg-30", "low-pass", "random-projections", "key-recovery", "spectrum-notch"):
        prepared = COUNTERMEASURES[name].prepared(data)
        np.testing.assert_allclose(prepared.test_images, prepared.images, atol=1e-5)
        np.testing.assert_allclose(prepared.clean_images, prepared.images, atol=1e-5)


def test_a_clean_share_is_mixed_in_or_taken_alone():
    originals = natural(12, 1)
    released = 255 - originals
    indices = np.array([2, 5])
    data = data_of(released, clean_images=originals[indices], clean_indices=indices)
    mixed = COUNTERMEASURES["clean-5"].prepared(data)
    np.testing.assert_array_equal(mixed.images[indices], originals[indices])
    others = np.setdiff1d(np.arange(12), indices)
    np.testing.assert_array_equal(mixed.images[others], released[others])
    alone = COUNTERMEASURES["only-clean-5"].prepared(data)
    np.testing.assert_array_equal(alone.images, originals[indices])
    np.testing.assert_array_equal(alone.labels, data.labels[indices])
    shares = {name: c.clean_share for name, c in COUNTERMEASURES.items() if 0 < c.clean_share < 1}  # all: a bound
    assert all(int(name.rpartition("-")[2]) == round(100 * share) for name, share in shares.items())
    assert all(COUNTERMEASURES[name].clean_share for name, c in COUNTERMEASURES.items() if c.fine_tunes)


def test_pgd_is_the_same_unrolled_and_as_a_loop(monkeypatch):
    x, found = jax.random.uniform(jax.random.key(1), (2, 4, 4, 1)), []
    for on_cpu in (True, False):
        monkeypatch.setattr(adversarial, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        attack = functools.partial(pgd, lambda x: jnp.sin(5 * x).sum((1, 2, 3)), eps=0.1, step_size=0.03, steps=3)
        traced = str(jax.make_jaxpr(attack)(jax.random.key(0), x))
        assert traced.count("cos") == (3 if on_cpu else 1)
        found.append(jax.jit(attack)(jax.random.key(0), x))
    np.testing.assert_allclose(*found, atol=1e-6)


def test_pgd_of_a_linear_loss_ends_in_a_corner_of_the_ball():
    x = jnp.array([0.5, 0.01, 0.99, 0.5]).reshape(1, 2, 2, 1)
    weights = jnp.array([1.0, -1.0, 1.0, -1.0]).reshape(1, 2, 2, 1)

    def linear(images):
        return (weights * images).sum(axis=(1, 2, 3))

    attack = functools.partial(pgd, eps=0.1, step_size=0.07, steps=3)
    result = attack(linear, jax.random.key(0), x)
    np.testing.assert_allclose(result.ravel(), [0.6, 0.0, 1.0, 0.4], atol=1e-6)  # x + eps sign(w), in [0, 1]
    # One short step stays between its random start and the corner.
    one = pgd(linear, jax.random.key(0), x, eps=0.1, step_size=0.01, steps=1)
    assert np.abs(one - x).max() <= 0.1 + 1e-6
    assert np.abs(one - result).max() > 0.01


def test_fgsm_with_a_random_start_steps_up_and_stays_in_its_ball():
    x = jnp.full((1, 16, 16, 3), 0.5)

    def falling(images):
        return -images.sum(axis=(1, 2, 3))

    levels = 255 * np.asarray(COUNTERMEASURES["fgsm-rs"].adversary(falling, jax.random.key(0), x) - x)
    # A start in [-8, 8] less 10, clipped at -8, which starts below 2 reach.
    assert levels.min() == pytest.approx(-8, abs=1e-3)
    assert levels.max() == pytest.approx(-2, abs=0.2) and levels.max() <= -2 + 1e-3
    assert (levels < -7.999).mean() == pytest.approx(10 / 16, abs=0.06)


def test_of_several_copies_each_image_has_the_one_with_the_highest_loss(monkeypatch):
    values = np.random.default_rng(0).permutation(20).reshape(4, 5)  # of the copies of five images
    monkeypatch.setattr(adversarial, "ueraser", lambda key, x: x + values.reshape(20, 1, 1, 1))
    signs = jnp.array([1, -1, 1, -1, 1])  # of the loss of an image in its value

    def losses_of_x(x):
        return signs * x.mean(axis=(1, 2, 3))

    chosen = worst_ueraser(losses_of_x, jax.random.key(0), jnp.zeros((5, 2, 2, 1)), copies=4)
    expected = [(values[:, image].max if signs[image] > 0 else values[:, image].min)() for image in range(5)]
    np.testing.assert_array_equal(chosen, np.broadcast_to(np.reshape(expected, (5, 1, 1, 1)), (5, 2, 2, 1)))


def squares(weights, x, y):
    """Mean loss of a linear model of images."""
    return ((x.reshape(len(x), -1) @ weights["slope"] + weights["offset"] - y) ** 2).sum(axis=1).mean()


WEIGHTS = {"slope": jnp.zeros((4, 3)), "offset": jnp.array([0.5, 0.0, -0.5])}


@jax.jit
def private(key, x, y, clip, noise):
    return clip_and_noise(
        lambda x, y: jax.value_and_grad(squares)(WEIGHTS, x, y), key, x, y, clip=clip, noise=noise
    )  # fmt: skip


def examples(seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Six images, their gradients from 0 to large, and what the model shall say of them."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(size=(6, 2, 2, 1)), rng.normal(size=(6, 3)) * np.arange(6)[:, None]
    y[0] = WEIGHTS["offset"]
    return x.astype(np.float32), y.astype(np.float32)


def test_dp_sgd_clips_as_optax_does():
    x, y = examples()
    loss, gradient = private(jax.random.key(0), x, y, 7.0, 0.0)
    assert float(loss) == pytest.approx(float(jax.jit(squares)(WEIGHTS, x, y)), rel=1e-6)
    each = jax.jit(jax.vmap(jax.grad(squares), (None, 0, 0)))(WEIGHTS, x[:, None], y[:, None])
    norms = np.sqrt(sum((np.asarray(leaf).reshape(6, -1) ** 2).sum(axis=1) for leaf in jax.tree.leaves(each)))
    assert norms[0] == 0 and (norms < 7).sum() == 3 and norms.max() > 14
    aggregate = optax.contrib.differentially_private_aggregate(7.0, 0.0, key=jax.random.key(0))
    expected, _ = jax.jit(lambda each: aggregate.update(each, aggregate.init(WEIGHTS)))(each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradient, expected)


def test_dp_sgd_bounds_what_one_example_can_do():
    x, y = examples()
    poisoned = y.copy()
    poisoned[3] = [1e6, -1e6, 1e6]
    (_, clean), (_, moved) = (private(jax.random.key(0), x, labels, 1.0, 0.1) for labels in (y, poisoned))
    difference = optax.tree.norm(optax.tree.sub(clean, moved))
    assert 0 < float(difference) <= 2 * 1.0 / 6 + 1e-6  # from any vector of norm 1 to any other


def test_dp_sgd_adds_noise_of_the_stated_strength():
    x, y = examples()
    _, plain = private(jax.random.key(0), x, y, 2.0, 0.0)
    keys = jax.random.split(jax.random.key(1), 300)
    _, noisy = jax.vmap(private, (0, None, None, None, None))(keys, x, y, 2.0, 0.3)
    added = np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (noisy, plain)), strict=True)])
    assert added.std() == pytest.approx(2.0 * 0.3 / 6, rel=0.05)  # 4,500 values
    assert abs(added.mean()) < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_non_local_means_remove_noise_and_keep_edges(channels):
    clean = np.full((2, 16, 16, channels), 60, np.uint8)
    clean[:, :, 8:] = 190
    noisy = to_uint8(decode(clean) + np.random.default_rng(0).normal(0, 8 / 255, clean.shape))
    before = noisy.copy()
    denoised = non_local_means(noisy, noise=8 / 255)
    assert denoised.dtype == np.uint8 and denoised.shape == clean.shape
    errors = [np.abs(images.astype(int) - clean).mean() for images in (noisy, denoised)]
    assert errors[1] < 0.4 * errors[0]
    assert np.abs(denoised[:, :, 7:9].astype(int) - clean[:, :, 7:9]).max() < 30
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(non_local_means(clean, noise=8 / 255), clean)


def test_a_purifier_gets_every_image_and_cannot_change_what_is_there():
    data = data_of(natural(12, 1))
    before = data.images.copy()

    def negative(images):
        images[:] = 255 - images
        return images.astype(np.float32) / 255

    result = purified(data, purifier=negative)
    for given, got in (
        (data.images, result.images), (data.test_images, result.test_images), (data.clean_images, result.clean_images)
    ):  # fmt: skip
        np.testing.assert_allclose(got, 1 - decode(given), atol=1e-6)
    np.testing.assert_array_equal(data.images, before)
    assert purify(before, purifier=lambda images: jnp.asarray(images)).dtype == np.uint8  # any kind of array


def failing(images):
    raise ValueError("no\nweights")


@pytest.mark.parametrize(
    ("purifier", "says"),
    [
        (failing, "failed: ValueError: no weights"),
        (lambda images: images[1:], r"shape \(1, 8, 8, 1\) for images of shape \(2, 8, 8, 1\)"),
        (lambda images: images / 255, "gave float64: images must be uint8, or float32"),
        (lambda images: np.full(images.shape, np.nan, np.float32), "not finite"),
        (lambda images: np.float32(images) + 1, "from 1 to 256: float32 is in"),
        (lambda images: -np.float32(images) / 255, "from -1 to -0: float32 is in"),
    ],
)
def test_what_a_purifier_gives_is_checked(purifier, says):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1] = 255
    with pytest.raises(UserError, match=f"^purifier: .*{says}") as caught:
        purify(images, purifier=purifier)
    assert "\n" not in str(caught.value)


def test_lists_are_checked():
    assert parse_countermeasures("none, jpeg-10,none") == ["none", "jpeg-10"]
    with pytest.raises(UserError, match="`countermeasures`: unknown 'jpeg-11': did you mean 'jpeg-10'"):
        parse_countermeasures("none,jpeg-11")
    with pytest.raises(UserError, match="`countermeasures`: names none"):
        parse_countermeasures(" ,")


def test_those_of_one_hacker_are_done_in_turn():
    data = data_of(natural(12))
    both = countermeasure_of("grey+jpeg-30+crop-flip+cutout+ueraser-max")
    by_hand = COUNTERMEASURES["jpeg-30"].prepared(COUNTERMEASURES["grey"].prepared(data))
    prepared = both.prepared(data)
    for field in ("images", "test_images", "reference", "clean_images"):
        np.testing.assert_array_equal(getattr(prepared, field), getattr(by_hand, field))
        assert not np.array_equal(getattr(prepared, field), getattr(data, field))
    assert both.augment == ("crop-flip", "cutout")
    assert both.adversary is COUNTERMEASURES["ueraser-max"].adversary
    assert countermeasure_of("grey") is COUNTERMEASURES["grey"]
    inverted = dataclasses.replace(COUNTERMEASURES["purifier"], prepare=lambda data: data.with_all_images(np.invert))
    np.testing.assert_array_equal(
        countermeasure_of("purifier+grey", purifier=inverted).prepared(data).images,
        COUNTERMEASURES["grey"].prepared(data.with_all_images(np.invert)).images,
    )


@functools.cache
def left_by(name: str):
    """What a counter-measure leaves of natural images."""
    data = data_of(natural(90))
    return COUNTERMEASURES[name].prepared(dataclasses.replace(data, reference=data.reference[:200]))


@pytest.mark.parametrize("first", ["class-means", "orthogonal-projection", "key-recovery", "grey", "total-variation"])
@pytest.mark.parametrize("then", ["clean-5", "only-clean-5", "class-means", "grey", "jpeg-50", "non-local-means"])
def test_what_one_counter_measure_leaves_is_what_the_next_takes(first, then):
    if first == then:
        return
    assert countermeasure_of(f"{first}+{then}").augment == ()  # done in turn, see above
    prepared = COUNTERMEASURES[then].prepared(left_by(first))
    for images in (prepared.images, prepared.test_images, prepared.clean_images):
        # In the units of their dtype, and natural images still: neither a constant nor out of the range.
        x = decode(images)
        assert -0.5 < x.min() < x.max() < 1.5
        assert x.std() > 0.05


def test_originals_are_mixed_into_computed_images_in_their_units():
    data = data_of(natural(90))
    prepared = countermeasure_of("class-means+clean-5").prepared(data)
    np.testing.assert_allclose(prepared.images[data.clean_indices], decode(data.clean_images), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("clean-5+dfr-1", "clean-5.dfr-1: a hacker has one clean share, not 2"),
        ("ueraser-max+adversarial-training", "a hacker has one adversary, not 2"),
        ("none+grey", "each goes once, and none goes alone"),
        ("grey+blur+grey", "each goes once"),
        ("grey+jpeg-11", "unknown 'jpeg-11': did you mean 'jpeg-10'"),
        ("grey+", "unknown ''"),
    ],
)
def test_what_does_not_go_together_is_refused(names, message):
    with pytest.raises(UserError, match=message):
        parse_countermeasures(f"none,{names}")
