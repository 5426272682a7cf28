"""From originals to released images: in budget, reproducible, and the same after any interruption."""

import dataclasses
import os
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from process_examples import begin

from ugejax import batches
from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.cli import main
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection, method_of
from ugejax.authorized import draw_master, new_key, seen
from ugejax.errors import UserError
from ugejax.perturbations.start import class_means, class_stripes, misaligned_means, nearest_wrong_class
from ugejax.training import Batch, Recipe
from ugejax.uge import Method, parametrise
from ugejax.views import FORMS, default_step

TINY = Method(epochs=1, snapshots=2, surrogates=("mlp",), period=4, batch_size=20, transforms=())


def toy(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """8x8 images of three classes that differ in which third of the rows is bright, some values saturated."""
    labels = np.arange(n, dtype=np.int32) % 3
    images = np.random.default_rng(0).integers(0, 120, (n, 8, 8, 1))
    for k in range(3):
        images[labels == k, 3 * k : 3 * k + 2] += 150
    return np.clip(images, 0, 255).astype(np.uint8), labels


def protection(form: str, method: Method = TINY, *, epochs: int = 2, seed: int = 0) -> Protection:
    key = new_key(
        draw_master(seed), form=form, network="mlp", image_shape=(8, 8, 1), num_classes=3,
        step=default_step(form, method.eps), recipe=Recipe(epochs=epochs, batch_size=20), from_seed=True,
    )  # fmt: skip
    return Protection.by(key, build_authorized(key).of_release(bytes(16)), method)


@pytest.mark.parametrize(
    ("form", "transforms"),
    [
        *((form, ()) for form in FORMS),
        ("plain", ("crop-flip", "jpeg-30", "mixup")),
    ],
)
def test_every_form_releases_images_within_the_budget(form, transforms, tmp_path):
    images, labels = toy()
    job = protection(form, dataclasses.replace(TINY, transforms=transforms))
    stages = []
    released = job.run(images, labels, tmp_path, lambda stage, *_: stages.append(stage))
    distance = np.abs(released.astype(int) - images)
    assert released.dtype == np.uint8
    assert released.shape == images.shape
    assert 0 < distance.max() <= 8
    assert stages == (["perturbation"] if FORMS[form].exact else ["trajectory", "perturbation"])
    if FORMS[form].exact:
        # Cells are met exactly; a subspace up to the rounding of the 16 values of a patch.
        allowed = 0 if form == "keyed-dither" else 4 / 255
        view = job.network.view
        assert np.abs(seen(view, released) - seen(view, images)).max() <= allowed


def test_an_update_takes_fewer_images_if_they_are_large(monkeypatch, tmp_path):
    images, labels = toy()
    tens = protection("keyed-dither", dataclasses.replace(TINY, batch_size=10)).learn(images, labels, tmp_path / "10")
    monkeypatch.setattr(batches, "VALUES", 10 * 64 + 63)
    fewer = protection("keyed-dither").learn(images, labels, tmp_path / "20")
    np.testing.assert_array_equal(fewer, tens)


@pytest.mark.parametrize(
    "changes",
    [
        {"parametrisation": "sample-wise", "feature_loss": "error-max"},
        {"feature_loss": "distance", "undistillation": 0.5, "gradient_distance": "cosine", "transforms": ("mixup",)},
        {"norm": "l2", "eps": 0.5},
        {"parametrisation": "generator", "undistillation": 0.5},
    ],
)
def test_settings_of_the_method_stay_within_the_budget(changes, tmp_path):
    images, labels = toy()
    method = dataclasses.replace(TINY, **changes)
    figures = []
    released = protection("plain", method).run(images, labels, tmp_path, lambda *given: figures.append(given))
    difference = (released.astype(float) - images) / 255
    assert (difference != 0).any()
    sizes = np.abs(difference) if method.norm == "linf" else np.sqrt((difference**2).sum(axis=(1, 2, 3)))
    assert sizes.max() <= method.eps * (1 + 1e-6)
    expected = {"feature_distance", "gradient_matching"} | ({"undistillation"} if method.undistillation else set())
    assert set(figures[-1][-1]) == expected


@pytest.mark.parametrize("eps", [0.2, 1.0])
def test_cells_stay_within_a_ball_of_the_euclidean_norm_too(eps, tmp_path):
    images, labels = toy()
    job = protection("keyed-dither", dataclasses.replace(TINY, epochs=0, norm="l2", eps=eps))
    released = job.run(images, labels, tmp_path)
    sizes = np.sqrt((((released.astype(float) - images) / 255) ** 2).sum(axis=(1, 2, 3)))
    assert 0.5 * eps < sizes.max() <= eps
    np.testing.assert_array_equal(seen(job.network.view, released), seen(job.network.view, images))


@pytest.mark.parametrize("form", ["keyed-linear", "keyed-content"])
def test_rounding_follows_from_the_secret_and_from_nothing_that_the_card_tells(form):
    images, labels = toy()
    job = protection(form)
    noise = 0.02 * jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    released = job.release(images, labels, noise)
    np.testing.assert_array_equal(
        dataclasses.replace(job, prng_key=jax.random.key(5)).release(images, labels, noise), released
    )
    other = dataclasses.replace(job, rounding_key=jax.random.key(5)).release(images, labels, noise)
    assert (other != released).mean() > 0.1


def test_rounding_moves_no_image_to_another_subspace():
    images, labels = toy()
    job = protection("keyed-content")
    before = job.network.view.select(images / 255)
    for seed in range(4):
        again = dataclasses.replace(job, rounding_key=jax.random.key(seed))
        released = again.release(images, labels, again._start(images, labels))
        np.testing.assert_array_equal(job.network.view.select(released / 255), before)
        assert (released != images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("eps", [0.02, 0.5])
def test_within_a_ball_rounding_leaves_a_subspace_no_mean_by_class(eps, tmp_path):
    images, labels = (np.tile(part, (10,) + (1,) * (part.ndim - 1)) for part in toy())
    job = protection("keyed-linear", dataclasses.replace(TINY, epochs=0, norm="l2", eps=eps, amplitude=3.0))
    released = job.run(images, labels, tmp_path)
    sizes = np.sqrt((((released.astype(float) - images) / 255) ** 2).sum(axis=(1, 2, 3)))
    assert sizes.max() <= eps
    if eps == 0.5:
        assert np.median(sizes) > 0.9 * eps
        view = job.network.view
        shown = 255 * (seen(view, released) - seen(view, images))
        means = np.stack([shown[labels == k].mean(axis=0) for k in range(3)])
        # Rounding errors of half a level leave 0.035 of 200 images, saturated values some more, and rounding towards
        # zero 0.16.
        assert np.sqrt((means**2).mean()) < 0.11


def test_a_step_of_the_euclidean_norm_moves_the_noise_and_does_not_replace_it():
    how = parametrise(Method(norm="l2", eps=0.5, parametrisation="sample-wise"), (32, 32, 3))
    rng = np.random.default_rng(0)
    noise, grad = (rng.normal(size=(1, 32, 32, 3)).astype(np.float32) for _ in range(2))
    noise *= 0.5 / np.sqrt((noise**2).sum())
    batch = Batch(np.zeros_like(noise), np.zeros(1, np.int32), np.zeros(1, np.int32))
    moved = np.asarray(how.moved(jax.numpy.asarray(noise), batch, jax.numpy.asarray(noise), grad, lambda d: d))
    share = Method().step_size * 0.5 / np.sqrt(noise.size)
    np.testing.assert_allclose(np.abs(moved - noise), share, rtol=1e-3)


def test_stripes_between_patches_would_be_lost_to_keyed_content():
    assert method_of(["keyed-content"]).period == 4
    assert method_of(["keyed-content"], period=8).period == 8
    assert method_of(["keyed-dither"]).period == Method().period


@pytest.mark.parametrize("start", ["stripes", "misaligned"])
@pytest.mark.parametrize("parametrisation", ["class-wise", "sample-wise"])
def test_without_epochs_the_start_is_released_and_nothing_is_trained(start, parametrisation, tmp_path):
    images, labels = toy()
    method = dataclasses.replace(TINY, epochs=0, start=start, parametrisation=parametrisation)
    stages = []
    job = protection("keyed-dither", method)
    released = job.run(images, labels, tmp_path, lambda stage, *_: stages.append(stage))
    assert stages == []
    assert 0 < np.abs(released.astype(int) - images).max() <= 8
    assert not any(tmp_path.iterdir())


def test_released_images_do_not_depend_on_the_batch_and_follow_from_the_keys(tmp_path):
    images, labels = toy()
    noise = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1), minval=-0.03, maxval=0.03)
    job = protection("keyed-linear", dataclasses.replace(TINY, epochs=0))
    whole = job.release(images, labels, noise)
    np.testing.assert_array_equal(job.release(images, labels, noise, batch_size=7), whole)
    again = protection("keyed-linear", dataclasses.replace(TINY, epochs=0))
    np.testing.assert_array_equal(again.run(images, labels, tmp_path), job.run(images, labels, tmp_path))
    other = protection("keyed-linear", dataclasses.replace(TINY, epochs=0), seed=1)
    assert (other.run(images, labels, tmp_path) != job.run(images, labels, tmp_path)).any()


def test_a_step_that_destroys_the_noise_is_refused(tmp_path):
    images, labels = toy()
    with pytest.raises(UserError, match="was nan in step .* of epoch 1; .*`step_size`"):
        protection("keyed-dither", dataclasses.replace(TINY, feature_distance=float("inf"))).run(
            images, labels, tmp_path
        )


def test_interrupted_after_every_stage_it_ends_with_the_same_bytes(tmp_path):
    images, labels = toy()
    method = dataclasses.replace(TINY, epochs=2, snapshots=3, transforms=("crop-flip",))
    reports = []
    undisturbed = protection("plain", method, epochs=3).run(
        images, labels, tmp_path / "whole", lambda stage, done, of, _: reports.append((stage, done, of))
    )
    assert reports == [("trajectory", 1, 2), ("trajectory", 2, 2), ("perturbation", 1, 2), ("perturbation", 2, 2)]

    def interrupt(stage, done, of, _):
        seen_reports.append((stage, done, of))
        raise KeyboardInterrupt

    seen_reports: list[tuple[str, int, int]] = []
    for _ in reports:
        with pytest.raises(KeyboardInterrupt):
            protection("plain", method, epochs=3).run(images, labels, tmp_path / "cut", interrupt)
    # Each attempt did one stage and none did one twice: the work that was done was used.
    assert seen_reports == reports
    released = protection("plain", method, epochs=3).run(images, labels, tmp_path / "cut", interrupt)
    np.testing.assert_array_equal(released, undisturbed)


def test_interrupted_while_a_checkpoint_is_written_it_ends_with_the_same_bytes(tmp_path, monkeypatch):
    images, labels = toy()
    method = dataclasses.replace(TINY, epochs=2)
    undisturbed = protection("keyed-dither", method).run(images, labels, tmp_path / "whole")
    save = StepCheckpoints.save

    def interrupted(self, step, tree):
        if step == 2:
            raise KeyboardInterrupt
        save(self, step, tree)

    with monkeypatch.context() as patch:
        patch.setattr(StepCheckpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            protection("keyed-dither", method).run(images, labels, tmp_path / "cut")
    reports = []
    released = protection("keyed-dither", method).run(
        images, labels, tmp_path / "cut", lambda stage, done, *_: reports.append(done)
    )
    assert reports == [2]
    np.testing.assert_array_equal(released, undisturbed)


def test_killed_twice_the_command_ends_with_the_same_bytes(tmp_path):
    images, labels = toy()
    np.savez(tmp_path / "toy.npz", data=images, targets=labels)

    def command(name: str) -> list[str]:
        return [
            "protect", str(tmp_path / "toy.npz"), "--out", str(tmp_path / name), "--key", str(tmp_path / f"key-{name}"),
            "--seed", "0", "--authorized", "plain", "--network", "mlp", "--surrogates", "mlp",
            "--perturbation-epochs", "3", "--epochs", "3", "--transforms", "none",
        ]  # fmt: skip

    assert main(command("whole")) == 0
    rng = np.random.default_rng(0)
    for stage in ("trajectory/0", "noise"):  # each is followed by a compilation that takes longer than the pause
        process = begin(main_without_programs_on_disk, command("cut"), said=tmp_path / "said")
        wait_for(tmp_path / "key-cut" / "runs", stage, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "cut").exists()
    assert main(command("cut")) == 0
    for file in ("data.npz", "card.json", "manifest.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def main_without_programs_on_disk(arguments: list[str]) -> int:
    jax.config.update("jax_enable_compilation_cache", False)  # it is to be killed while it compiles
    return main(arguments)


def wait_for(folder: Path, name: str, process: ForkServerProcess, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not any(folder.glob(f"*/{name}")):
        assert process.exitcode is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, os.listdir(folder.parent)
        time.sleep(0.01)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12).flatmap(lambda k: arrays(np.float64, (k, 2, 2, 1), elements=st.floats(0, 1))))
def test_the_wrong_class_is_never_the_right_one_and_none_is_aimed_at_twice(means):
    wrong = nearest_wrong_class(means)
    assert wrong.dtype == np.int32
    assert sorted(wrong) == list(range(len(means)))
    assert (wrong != np.arange(len(means))).all()


def test_the_wrong_class_is_the_near_one():
    means = np.array([0.0, 0.9, 0.1, 1.0]).reshape(4, 1, 1, 1)
    np.testing.assert_array_equal(nearest_wrong_class(means), [2, 3, 0, 1])


def test_class_means():
    images, labels = toy()
    means = class_means(images, labels, 3)
    assert means.shape == (3, 8, 8, 1)
    np.testing.assert_allclose(means[1], images[1::3].astype(float).mean(axis=0) / 255)
    np.testing.assert_allclose(class_means(images, labels, 4)[3], images.astype(float).mean(axis=0) / 255)


def test_misalignment_pushes_every_class_towards_its_wrong_class():
    images, labels = toy()
    means = class_means(images, labels, 3)
    wrong = nearest_wrong_class(means)
    pushed = means + np.asarray(misaligned_means(means, wrong, amplitude=0.02))
    np.testing.assert_allclose(np.abs(pushed - means), 0.02, rtol=1e-5)
    for k in range(3):
        assert np.linalg.norm(pushed[k] - means[wrong[k]]) < np.linalg.norm(means[k] - means[wrong[k]]) - 0.05


@pytest.mark.parametrize(("size", "period"), [((20, 37), 8), ((32, 32), 14), ((24, 19), 4), ((224, 160), 14)])
@pytest.mark.parametrize("channels", [1, 3])
def test_stripes_are_waves_of_five_periods_along_an_axis_and_mirror_symmetric(size, period, channels):
    h, w = size
    stripes = np.asarray(class_stripes(b"secret 0", 10, (h, w, channels), amplitude=0.03, period=period))
    assert stripes.shape == (10, h, w, channels)
    np.testing.assert_allclose(np.abs(stripes), 0.03)
    np.testing.assert_array_equal(stripes, stripes[:, :, ::-1])
    np.testing.assert_array_equal(stripes, stripes[:, ::-1])
    down = (stripes == stripes[:, :, :1]).all(axis=(1, 2, 3))
    assert down.sum() == 5
    np.testing.assert_array_equal(~down, (stripes == stripes[:, :1]).all(axis=(1, 2, 3)))
    assert len({one.tobytes() for one in stripes}) == 10
    colour = {1: [1], 3: [1, 1, -1]}[channels]
    np.testing.assert_array_equal(stripes, stripes[..., :1] * colour)
    for wave in stripes[:, :, 0, 0][down]:  # half a period between changes of sign, rounded mirror-symmetrically
        assert np.ptp(np.diff(np.flatnonzero(np.diff(wave)))) <= 2


@pytest.mark.parametrize(("width", "period"), [(320, 12), (24, 10.5)])
def test_the_middle_wave_has_the_period_and_the_others_its_ratios(width, period):
    """12 is more than 7/16 of 24 pixels."""
    stripes = np.asarray(class_stripes(b"secret 0", 10, (480, width, 3), amplitude=1.0, period=12))[:, :, 0, 0]
    changes = sorted(np.count_nonzero(np.diff(wave)) for wave in stripes if np.ptp(wave))
    assert changes == pytest.approx([ratio * 2 * 480 / period for ratio in (0.5, 0.75, 1, 1.25, 1.5)], abs=2)


@pytest.mark.parametrize(
    ("classes", "channels", "bands"), [(2, 3, 1), (11, 3, 2), (100, 3, 2), (11, 1, 2), (1000, 3, 3)]
)
def test_more_classes_than_codes_get_words_of_codes_in_bands(classes, channels, bands):
    stripes = np.asarray(class_stripes(b"secret 1", classes, (48, 32, channels), amplitude=1.0, period=8))
    assert len({one.tobytes() for one in stripes}) == classes
    height = 48 // bands
    for band in range(bands):  # within a band, rows are alike or pixels of a row are
        part = stripes[:, band * height : (band + 1) * height]
        assert ((part == part[:, :, :1]).all(axis=(1, 2, 3)) | (part == part[:, :1]).all(axis=(1, 2, 3))).all()


def test_images_too_small_for_so_many_classes_are_refused():
    with pytest.raises(UserError, match="images of 2x2 are too small for 17 classes"):
        class_stripes(b"secret 0", 17, (2, 2, 3), amplitude=1.0, period=8)


def test_stripes_are_dealt_by_the_key():
    one, other = (class_stripes(bytes([k]), 10, (8, 8, 3), amplitude=1.0, period=8) for k in (0, 1))
    assert (np.asarray(one) != np.asarray(other)).any()
