"""Baselines that optimise: what they claim of the very networks that they were made on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from baselines_examples import BATCH, CLASSES, N, digits

from ugejax.baselines import BASELINES, dune, em, learnability_lock_conv, learnability_lock_linear, ntga, pgd, rem
from ugejax.baselines.em import EmSettings
from ugejax.baselines.hypo import HypoSettings
from ugejax.baselines.learnability_lock import LockSettings
from ugejax.baselines.ntga import NtgaSettings
from ugejax.baselines.pgd import batches, descend, make_gradient, perturb, perturb_classes
from ugejax.baselines.pil import PilSettings, linearising_loss, train_linear
from ugejax.baselines.rem import RemSettings
from ugejax.baselines.sep import SepSettings
from ugejax.baselines.surrogate import clean_checkpoints, shuffled_batches
from ugejax.baselines.tap import TapSettings
from ugejax.losses import class_prototypes, error_minimising

KEY = jax.random.key(7)


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    return digits(darkest=32, brightest=223)  # a small budget is clipped nowhere


def protect(name: str, settings, *, eps: float | None = None, report=lambda *_: None) -> np.ndarray:
    images, labels = images_and_labels()
    return BASELINES[name].protect(KEY, images, labels, CLASSES, eps=eps, settings=settings, report=report)


def unit(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images, jnp.float32) / 255


def loss_of(module, weights, images: np.ndarray) -> float:
    return float(error_minimising(module.apply(weights, unit(images)), jnp.asarray(images_and_labels()[1])).mean())


@pytest.mark.parametrize(("norm", "on_cpu"), [("linf", True), ("l2", True), ("linf", False)])
def test_descent_finds_the_minimum_of_a_linear_loss_in_the_ball_of_valid_images(norm, on_cpu, monkeypatch):
    monkeypatch.setattr(pgd, "on_cpu", lambda: on_cpu)
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(2, 3, 3, 1)).astype(np.float32)
    x = rng.uniform(0.3, 0.7, slope.shape).astype(np.float32)
    x[0, 0, 0, 0] = 0.01 if slope[0, 0, 0, 0] > 0 else 0.99  # here the images' range is narrower than the ball
    gradient = make_gradient(lambda context, key, x_u, y: (context * x_u).sum(axis=(1, 2, 3)))
    start = np.full(x.shape, 0.5, np.float32)
    contexts = [0.25 * slope, 0.75 * slope]
    delta, loss = descend(gradient, contexts, KEY, x, None, start, eps=0.1, step_size=0.05, steps=40, norm=norm)
    delta = np.asarray(delta)
    assert (x + delta >= 0).all() and (x + delta <= 1).all()
    if norm == "linf":
        np.testing.assert_allclose(delta, np.clip(-0.1 * np.sign(slope), -x, 1 - x), atol=1e-6)
    else:
        np.testing.assert_allclose(delta[1], -0.1 * slope[1] / np.linalg.norm(slope[1]), atol=2e-3)
    # Both contexts count alike in the reported loss.
    assert float(loss) == pytest.approx(0.5 * float((slope * (x + delta)).sum(axis=(1, 2, 3)).mean()), abs=0.02)


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 5), (1, 1)])
def test_batches_cover_every_image_once_in_one_shape(n, size):
    parts = list(batches(n, size))
    assert {len(index) for index, _ in parts} == {min(n, size)}
    assert np.concatenate([index[:count] for index, count in parts]).tolist() == list(range(n))
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    moved = perturb(
        lambda key, x, y, delta: (x + y.reshape(-1, 1, 1, 1) + delta, jnp.zeros(())), KEY, images,
        np.arange(n, dtype=np.int32), 10 * np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1), batch_size=size,
    )  # fmt: skip
    np.testing.assert_allclose(moved.ravel(), np.arange(n) * (1 / 255 + 11), rtol=1e-6)


def test_what_came_of_a_batch_is_fetched_when_the_next_is_on_the_device():
    happened = []

    def of_batch(key, x, y, delta):
        happened.append(("on the device", int(y[0]) // 2))
        return delta, jnp.zeros(())

    noise = np.zeros((6, 1, 1, 1), np.float32)
    perturb(
        of_batch, KEY, np.zeros(noise.shape, np.uint8), np.arange(6, dtype=np.int32), noise, batch_size=2,
        report=lambda stage, done, total, figures: happened.append(("fetched", done // 2 - 1)),
    )  # fmt: skip
    assert [batch for what, batch in happened if what == "fetched"] == [0, 1, 2]
    assert [what == "fetched" for what, _ in happened] == [False, False, True, False, True, True]


def test_a_batch_moves_classes_to_the_mean_of_their_members_and_waits_for_nothing():
    images = np.array([0, 51, 102, 153, 204], np.uint8).reshape(5, 1, 1, 1)
    labels, order = np.array([0, 1, 0, 1, 1], np.int32), np.array([4, 3, 2, 1, 0])

    def of_batch(key, x, y, delta):
        return x + 10 * delta, jnp.zeros(())

    def passed(noise):
        return perturb_classes(of_batch, KEY, images, labels, order, noise, batch_size=2)

    # Of class 1 images 4 and 3, then 1; of class 0 image 2, then 0; image 4, which fills up the last batch, not again.
    start = jnp.array([1.0, 2.0, 7.0]).reshape(3, 1, 1, 1)
    expected = [10 * (10 * 1 + 0.4) + 0, 10 * (10 * 2 + 0.7) + 0.2, 7]
    np.testing.assert_allclose(passed(start).ravel(), expected, rtol=1e-6)
    jax.make_jaxpr(passed)(start)  # in which nothing has a value that could be waited for


def test_all_steps_on_a_batch_are_one_program_on_an_accelerator(monkeypatch):
    """To which nothing is moved, and which gives what the loop over compiled steps gives."""
    slope = np.random.default_rng(0).normal(size=(2, 3, 3, 1)).astype(np.float32)
    gradient = make_gradient(
        lambda context, key, x_u, y: (context * jnp.square(x_u + jax.random.uniform(key, x_u.shape))).sum((1, 2, 3))
    )
    arguments = (
        [jnp.asarray(slope), jnp.asarray(2 - slope)],
        KEY,
        jnp.full(slope.shape, 0.5),
        None,
        jnp.zeros(slope.shape),
    )
    found = {}
    for on_cpu in (True, False):
        monkeypatch.setattr(pgd, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        found[on_cpu] = descend(gradient, *arguments, eps=0.1, step_size=0.03, steps=3)
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(found[True][0]).max() == pytest.approx(0.09, abs=1e-6)
    sizes = jnp.asarray(0.1), jnp.asarray(0.03)
    with jax.transfer_guard("disallow"):
        pgd._descended(gradient, *arguments, *sizes, steps=3, norm="linf")


def test_shuffled_batches_take_every_image_once_an_epoch_and_then_anew():
    order = shuffled_batches(KEY, 12, 4)
    epochs = [np.concatenate([next(order) for _ in range(3)]) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("name", ["em", "em-class"])
def test_em_lowers_the_loss_of_the_surrogate_that_it_was_made_with_below_that_on_clean_images(name, monkeypatch):
    seen, reports = {}, []

    def spy(module, weights, images, labels):
        seen.update(module=module, weights=weights, released=images)
        return true_accuracy(module, weights, images, labels)

    true_accuracy = em.accuracy
    monkeypatch.setattr(em, "accuracy", spy)
    settings = EmSettings(surrogate="mlp", rounds=5, train_steps=2, batch_size=BATCH, pgd_steps=5, stop_error=0.01)
    released = protect(name, settings, report=lambda *given: reports.append(given))
    images, labels = images_and_labels()
    np.testing.assert_array_equal(seen["released"], released)
    clean, perturbed = (loss_of(seen["module"], seen["weights"], x) for x in (images, released))
    assert perturbed < 0.8 * clean
    done, figures = reports[-1][1], reports[-1][3]
    assert done == 5 or figures["error"] < 0.01
    assert all(figures["error"] >= 0.01 for *_, figures in reports[:-1])
    delta = released.astype(int) - images
    same = [(delta[labels == k] == delta[labels == k][0]).all() for k in range(CLASSES)]
    assert all(same) == (name == "em-class")
    assert any(same) == (name == "em-class")


REM = RemSettings(surrogate="mlp", train_steps=40, batch_size=BATCH, pgd_steps=5, attack_steps=2)


@pytest.mark.parametrize("name", ["rem", "sem"])
def test_robust_noise_lowers_the_loss_that_the_worst_perturbation_around_it_can_reach(name, monkeypatch):
    seen = {}

    def spy(*arguments, **options):
        module, state, train = true_surrogate(*arguments, **options)

        def kept(state, x, y):
            state, loss = train(state, x, y)
            seen.update(module=module, weights=state.variables)
            return state, loss

        return module, state, kept

    true_surrogate = rem.joint_surrogate
    monkeypatch.setattr(rem, "joint_surrogate", spy)
    eps = 32 / 255
    released = protect(name, REM, eps=eps)
    images, labels = images_and_labels()
    module, weights = seen["module"], seen["weights"]
    targets, losses = jax.nn.one_hot(labels, CLASSES), {}
    attack = rem._make_attack(module, eps, REM)
    for kind, x in (("clean", unit(images)), ("released", unit(released))):
        delta_a = attack(weights, KEY, x, targets)
        assert float(jnp.abs(delta_a).max()) == pytest.approx(eps / 2, rel=1e-5)
        losses[kind] = loss_of(module, weights, np.asarray(255 * (x + delta_a)))
        assert losses[kind] > loss_of(module, weights, np.asarray(255 * x))
    assert losses["released"] < 0.8 * losses["clean"]


def test_sem_draws_where_rem_attacks():
    x, targets = unit(images_and_labels()[0]), jax.nn.one_hot(images_and_labels()[1], CLASSES)
    drawn = np.asarray(rem._make_random(0.1, REM)(None, KEY, x, targets))
    assert 0.045 < np.abs(drawn).max() <= 0.05
    assert abs(drawn.mean()) < 0.002
    few = dataclasses.replace(REM, train_steps=2)
    assert (protect("sem", few) != protect("rem", few)).any()


def test_tap_makes_its_network_see_the_next_class_in_most_images():
    settings = TapSettings(surrogate="mlp", epochs=15, pgd_steps=12, step_size=0.2, transforms=())
    released = protect("tap", settings, eps=64 / 255)
    images, labels = images_and_labels()
    train_key = jax.random.split(KEY, 3)[0]
    module, (weights,) = clean_checkpoints(train_key, "mlp", images, labels, CLASSES, epochs=15)
    clean, perturbed = (np.asarray(module.apply(weights, unit(x)).argmax(axis=-1)) for x in (images, released))
    assert (clean == labels).mean() > 0.9
    assert (perturbed == (labels + 1) % CLASSES).mean() > 0.8


def test_hypo_makes_its_network_surer_of_the_true_class():
    images, labels = images_and_labels()
    train_key = jax.random.split(KEY)[0]
    module, (weights,) = clean_checkpoints(train_key, "mlp", images, labels, CLASSES, epochs=4)
    released = protect("hypo", HypoSettings(surrogate="mlp", epochs=4, pgd_steps=10))
    assert loss_of(module, weights, released) < 0.5 * loss_of(module, weights, images)


def test_sep_brings_the_features_of_every_checkpoint_to_the_class_half_way_round():
    images, labels = images_and_labels()
    settings = SepSettings(surrogate="mlp", epochs=4, checkpoints=2, pgd_steps=16)
    released = protect("sep", settings, eps=64 / 255)
    train_key, epochs = jax.random.split(KEY)[0], []
    module, checkpoints = clean_checkpoints(
        train_key,
        "mlp",
        images,
        labels,
        CLASSES,
        epochs=4,
        checkpoints=2,
        report=lambda *given: epochs.append(given[1]),
    )
    assert epochs == [1, 2, 3, 4]
    assert len(checkpoints) == 2
    assert loss_of(module, checkpoints[1], images) < loss_of(module, checkpoints[0], images)
    for weights in checkpoints:
        features = functools.partial(module.apply, weights, method="features")
        means = class_prototypes(features(unit(images)), jnp.asarray(labels), num_classes=CLASSES)
        before, after = (
            np.square(features(unit(x))[:, None] - means[None]).mean(axis=-1).argmin(axis=1) for x in (images, released)
        )
        assert (before == (labels + 5) % CLASSES).mean() < 0.1
        assert (after == (labels + 5) % CLASSES).mean() > 0.8


def test_pil_lowers_its_loss_and_what_it_subtracts_tells_the_class_to_the_linear_classifier():
    images, labels = images_and_labels()
    settings = PilSettings(epochs=20, batch_size=BATCH, pgd_steps=15)
    released, eps = protect("pil", settings), 8 / 255
    train_key, start_key, _ = jax.random.split(KEY, 3)
    reports = []
    weights = train_linear(train_key, images, labels, CLASSES, settings, lambda *given: reports.append(given))
    assert [done for _, done, _, _ in reports] == list(range(1, 21))
    assert reports[-1][3]["loss"] < reports[0][3]["loss"]
    loss = linearising_loss(CLASSES, settings.balance)
    start = unit(images) + jax.random.uniform(start_key, images.shape, minval=-eps, maxval=eps)
    begun, ended = (float(loss((weights, unit(images)), None, x, labels).mean()) for x in (start, unit(released)))
    assert ended < begun
    subtracted = (images.astype(float) - released).reshape(N, -1)
    assert ((subtracted @ np.asarray(weights)).argmax(axis=1) == labels).mean() > 0.95


def test_pil_loss_worked_by_hand():
    weights = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    x, x_u = jnp.array([[0.5, 0.5]]).reshape(1, 1, 2, 1), jnp.array([[0.4, 0.8]]).reshape(1, 1, 2, 1)
    # delta = x - x_u = (0.1, -0.3): logits (0.1, -0.6); x_u: logits (0.4, 1.6)
    shortcut = np.log(1 + np.exp(-0.7))
    p = 1 / (1 + np.exp(1.2))
    divergence = 0.5 * np.log(0.5 / p) + 0.5 * np.log(0.5 / (1 - p))
    value = linearising_loss(2, 0.9)((weights, x), None, x_u, jnp.array([0]))
    np.testing.assert_allclose(value, [0.9 * shortcut + 0.1 * divergence], rtol=1e-5)


tangent_kernel = jax.jit(ntga.tangent_kernel)
trained_outputs = jax.jit(ntga.trained_outputs, static_argnames="time")


def test_tangent_kernel_is_that_of_a_wide_finite_network():
    width, inputs = 1024, 12
    x = np.random.default_rng(0).uniform(0, 1, (3, inputs)).astype(np.float32)
    sizes = [inputs] + [width] * ntga.LAYERS + [1]
    keys = jax.random.split(KEY, len(sizes))
    params = [
        (jax.random.normal(key, (a, b)), jax.random.normal(jax.random.fold_in(key, 1), (b,)))
        for key, a, b in zip(keys[1:], sizes[:-1], sizes[1:], strict=True)
    ]

    def output(params, x):
        for depth, (weight, bias) in enumerate(params):
            x = jax.lax.erf(x) if depth else x
            x = jnp.sqrt(ntga.WEIGHT_VARIANCE / len(weight)) * weight.T @ x + jnp.sqrt(ntga.BIAS_VARIANCE) * bias
        return x[0]

    @jax.jit
    def empirical(params, x):
        grads = jax.tree.leaves(jax.vmap(jax.grad(output), in_axes=(None, 0))(params, x))
        return sum(g.reshape(len(x), -1) @ g.reshape(len(x), -1).T for g in grads)

    kernel = np.asarray(tangent_kernel(jnp.asarray(x), jnp.asarray(x)))
    np.testing.assert_allclose(kernel, empirical(params, x), rtol=0.1)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-5)
    white = jnp.ones((1, inputs))
    assert float(tangent_kernel(white, white)[0, 0]) <= ntga.KERNEL_BOUND


@pytest.mark.parametrize("num_classes", [2, 10])
def test_trained_outputs_follow_the_closed_form(num_classes):
    images, labels = images_and_labels()
    x_u, x_v = unit(images[:20]), unit(images[20:30])
    y = np.eye(num_classes)[labels[:20] % num_classes]
    outputs = np.asarray(trained_outputs(x_v, x_u, jnp.asarray(y, jnp.float32), time=64))
    kernel, cross = (
        np.asarray(tangent_kernel(x.reshape(len(x), -1), x_u.reshape(20, -1)), np.float64) for x in (x_u, x_v)
    )
    learned = np.eye(20) - scipy.linalg.expm(-64 * kernel / y.size)
    expected = cross @ np.linalg.solve(kernel, learned @ y)
    np.testing.assert_allclose(outputs, expected, atol=0.02)
    assert np.ptp(expected) > 0.3


def test_ntga_raises_the_validation_loss_of_the_trained_network():
    images, labels = images_and_labels()
    settings = NtgaSettings(block=N, validation=N // 2, time=16, pgd_steps=6, step_size=0.2)
    released = protect("ntga", settings, eps=32 / 255)
    x_v, y = unit(images), jnp.asarray(labels)
    clean, attacked = (
        error_minimising(trained_outputs(x_v, unit(x), jax.nn.one_hot(y, CLASSES), time=16), y).mean()
        for x in (images, released)
    )
    assert float(attacked) > float(clean) + 0.02


LOCK = LockSettings(surrogate="mlp", rounds=2, train_steps=3, batch_size=BATCH, passes=2, stop_accuracy=2.0)


def test_linear_lock_is_undone_by_its_key_to_one_grey_level():
    images, labels = images_and_labels()
    eps, reports = 16 / 255, []
    released = protect("learnability-lock-linear", LOCK, eps=eps, report=lambda *given: reports.append(given))
    key = learnability_lock_linear.learn(KEY, images, labels, CLASSES, eps=eps, settings=LOCK)
    assert float(jnp.abs(key.weight - 1).max()) <= eps / 2 + 1e-6
    assert 0.2 * eps < float(jnp.abs(key.bias).max()) <= eps / 2 + 1e-6
    assert np.abs(released.astype(int) - images).max() >= 3
    restored = learnability_lock_linear.unlock(key, released, labels)
    assert np.abs(restored.astype(int) - images).max() <= 1
    other = learnability_lock_linear.unlock(key, released, (labels + 1) % CLASSES)
    assert np.abs(other.astype(int) - images).max() >= 3
    assert [done for _, done, _, _ in reports] == [1, 2]


def test_convolutional_lock_is_undone_by_its_key_to_a_grey_level_or_two():
    images, labels = images_and_labels()
    eps = 16 / 255
    released = protect("learnability-lock-conv", LOCK, eps=eps)
    key = learnability_lock_conv.learn(KEY, images, labels, CLASSES, eps=eps, settings=LOCK)
    assert np.abs(released.astype(int) - images).max() >= 3
    restored = learnability_lock_conv.unlock(key, released, labels, eps=eps)
    error = np.abs(restored.astype(int) - images)
    assert error.max() <= 2
    assert error.mean() < 0.2


def test_contracted_kernels_halve_distances_at_least_and_small_ones_are_left_alone():
    rng = np.random.default_rng(0)
    eps, y = 0.1, np.zeros(20, np.int32)
    wild = learnability_lock_conv.ConvLock(
        *(rng.normal(size=shape).astype(np.float32) for shape in ((1, 27, 16), (1, 16, 16), (1, 144, 3)))
    )
    x, z = rng.uniform(size=(2, 20, 6, 6, 3)).astype(np.float32)
    z = x + np.float32(1e-2) * (z - x)  # near enough for tanh not to saturate
    lock, contract = (
        jax.jit(functools.partial(function, eps=eps))
        for function in (learnability_lock_conv.lock, learnability_lock_conv.contract)
    )

    def ratio(params):
        moved = [np.asarray(lock(params, a, y)) - a for a in (x, z)]
        return np.linalg.norm((moved[0] - moved[1]).reshape(20, -1), axis=1) / np.linalg.norm(
            (x - z).reshape(20, -1), axis=1
        )

    assert ratio(wild).max() > 0.5
    tame = contract(wild)
    assert 0.005 < ratio(tame).max() <= 0.5
    for before, after in zip(tame, contract(tame), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4)


def test_dune_shifts_the_colours_of_a_class_as_one_and_keeps_its_distance():
    settings = dune.DuneSettings(
        surrogate="mlp", epochs=2, checkpoints=2, batch_size=BATCH, pgd_steps=1, step_size=1e-6, particles=4, moves=3
    )
    images, labels = images_and_labels()
    for name, reach in (("dune", 0.11), ("dune-linf", 4 / 255)):
        change = protect(name, settings).astype(int) - images
        colours = change.reshape(N, -1)
        assert (colours == colours[:, :1]).all()
        of_class = [set(colours[labels == label, 0]) for label in range(CLASSES)]
        assert all(len(found) == 1 for found in of_class) and len(set.union(*of_class)) > 2
        assert 0 < np.abs(colours).max() <= round(255 * reach)


def test_a_swarm_finds_the_least_and_stays_where_it_is_bound():
    settings = dune.DuneSettings(particles=40, moves=80)
    wanted = np.array([0.07, -0.02, 0.15])
    found = dune.swarm(KEY, lambda point: float(np.square(point - wanted).sum()), 3, settings, 0.1, bounded=False)
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert found[2] > 0.12  # beyond where they began
    found = dune.swarm(KEY, lambda point: float(np.square(point - wanted).sum()), 3, settings, 0.1, bounded=True)
    np.testing.assert_allclose(found, [0.07, -0.02, 0.1], atol=0.01)


def test_psnr_of_a_tenth_is_twenty_decibels():
    np.testing.assert_allclose(dune.psnr(np.full((2, 4, 4, 3), [0.1, 0.1, -0.1])), 20)
