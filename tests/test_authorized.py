"""The secret views: what they are blind to, and that the feasible set stays within it after rounding to 8 bits."""

import dataclasses
import os
import re
import signal
import stat
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from process_examples import begin
from sklearn.datasets import load_sample_images

from ugejax.app.keys import build_authorized, folder, read_key, set_passphrase, write_key
from ugejax.app.lock import alone_in
from ugejax.authorized import new_key, seen
from ugejax.authorized.network import split_weights
from ugejax.constraints import feasible as constraints
from ugejax.constraints.feasible import TOLERANCE
from ugejax.constraints.rounding import stochastic_round_to_8bit
from ugejax.errors import UserError
from ugejax.patches import patchify, unpatchify
from ugejax.training import default_recipe
from ugejax.views import FORMS, IdentityView, content_view, default_step, dither_view, linear_view
from ugejax.views.dither import anchors_of

# One program each in place of one for each operation; `test_variants` has the same without.
feasible = jax.jit(constraints.feasible, static_argnames=("eps", "norm"))
allowed = jax.jit(constraints.allowed, static_argnames=("eps", "norm"))
seen_by = jax.jit(lambda view, x: view.apply(x))

EPS = 8 / 255
SHAPE = (16, 8, 3)
VIEWS = {
    "linear": linear_view(b"secret 1", SHAPE),
    "content": content_view(b"secret 2", SHAPE),
    "dither": dither_view(b"secret 3", SHAPE, salt=bytes(16)),
}


def images(seed: int, n: int = 6) -> np.ndarray:
    """Noise with saturated regions, where clipping bites."""
    levels = np.random.default_rng(seed).normal(128, 110, (n, *SHAPE))
    return np.clip(levels, 0, 255).astype(np.uint8)


def make_key(form: str, seed: int = 0):
    return new_key(
        f"seed {seed}".encode(),
        form=form,
        network="cnn",
        image_shape=SHAPE,
        num_classes=4,
        step=default_step(form, EPS),
        recipe=default_recipe("cnn"),
        from_seed=True,
    )


def test_patches_come_back():
    x = jnp.arange(2 * 16 * 8 * 3.0).reshape(2, *SHAPE)
    patches = patchify(x, 4)
    assert patches.shape == (2, 8, 48)
    np.testing.assert_array_equal(patches[0, 1].reshape(4, 4, 3), x[0, :4, 4:8])
    np.testing.assert_array_equal(unpatchify(patches, 4, SHAPE), x)


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 1.0))
def test_feasible_perturbations_are_within_budget_and_box_and_invisible(name, seed, scale):
    view, x = VIEWS[name], jnp.asarray(images(seed) / 255, jnp.float32)
    wanted = scale * np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
    delta = feasible(wanted, x, view, eps=EPS)
    assert float(jnp.abs(delta).max()) <= EPS * (1 + 1e-6)
    beyond = 1e-6 if name == "dither" else TOLERANCE + 1e-6  # what the rounding to 8 bits takes away
    assert float((x + delta).min()) >= -beyond and float((x + delta).max()) <= 1 + beyond
    lower, upper = allowed(x, view, eps=EPS)
    assert bool((lower <= 0).all()) and bool((upper >= 0).all())
    if name == "dither":  # exact on the 8-bit grid
        released = jnp.round((x + delta) * 255) / 255
        np.testing.assert_array_equal(seen_by(view, released), seen_by(view, x))
    else:
        np.testing.assert_allclose(seen_by(view, x + delta), seen_by(view, x), atol=2e-5)


def test_black_and_white_values_leave_their_patches_a_perturbation():
    x = jnp.asarray(np.where(images(0) < 128, 0, images(0)) / 255, jnp.float32)  # half of all values are black
    wanted = EPS * jnp.sign(jax.random.normal(jax.random.key(0), x.shape))
    delta = 255 * feasible(wanted, x, VIEWS["linear"], eps=EPS)
    largest = np.abs(patchify(delta, 4)).max(axis=-1)
    assert largest.min() > 0.5 and largest.mean() > 3
    lower, upper = allowed(x, VIEWS["linear"], eps=EPS)
    released = stochastic_round_to_8bit(
        jax.random.key(1), jnp.asarray(np.rint(255 * np.asarray(x)), jnp.uint8), delta / 255, lower=lower, upper=upper
    )
    assert np.abs(np.rint(255 * np.asarray(x)) - np.asarray(released)).max() <= 8


def test_the_perturbation_keeps_most_of_its_budget_in_the_cells():
    x = jnp.full((1, *SHAPE), 0.5)
    delta = feasible(jnp.full(x.shape, EPS), x, VIEWS["dither"], eps=EPS)
    # Room above the value is uniform on 0 .. 15: the mean of min(room, 8) is (0 + 1 + ... + 7 + 8 * 8) / 16 = 5.75
    # grey levels, less the 16 of 128 pixels that are anchors.
    assert 255 * float(delta.mean()) == pytest.approx(5.75 * (1 - 16 / 128), rel=0.1)


@pytest.mark.parametrize("name", ["linear", "content"])
def test_the_projection_is_orthogonal_and_the_view_hides_its_range_only(name):
    view, x = VIEWS[name], jnp.asarray(images(0) / 255, jnp.float32)
    delta = jax.random.normal(jax.random.key(0), x.shape)
    inside = view.project(delta, x)
    np.testing.assert_allclose(view.project(inside, x), inside, atol=1e-5)
    assert float(jnp.sum(inside * (delta - inside))) == pytest.approx(0, abs=1e-2)
    assert float(jnp.abs(seen_by(view, x + 0.01 * (delta - inside)) - seen_by(view, x)).max()) > 1e-3


def test_content_picks_the_same_subspace_before_and_after_and_not_one_alone():
    view, x = VIEWS["content"], jnp.asarray(images(3, 64) / 255, jnp.float32)
    delta = feasible(jax.random.normal(jax.random.key(0), x.shape), x, view, eps=EPS)
    np.testing.assert_array_equal(view.select(x), view.select(x + delta))
    assert len(set(np.asarray(view.select(x)).tolist())) > 1


@pytest.mark.parametrize(("view_of", "count"), [(linear_view, 1), (content_view, 4)])
def test_a_third_of_each_patch_is_hidden_and_exported(view_of, count):
    arrays = view_of(b"secret", (8, 4, 3)).export().arrays
    assert arrays["bases"].shape == (count, 2, 48, 16) and arrays["hash_weights"].shape == (count, 2 * 3)


@pytest.mark.parametrize(("shape", "count"), [((32, 32, 3), 16), ((2, 12, 1), 3), ((12, 2, 1), 3), ((2, 2, 1), 1)])
def test_small_images_have_fewer_anchors(shape, count):
    assert anchors_of(shape) == count


def test_the_dither_depends_on_the_image_and_on_the_secret():
    view, x = VIEWS["dither"], jnp.asarray(images(0) / 255, jnp.float32)
    dither = np.asarray(view.dither(x))
    assert dither.min() == 0 and dither.max() == view.step - 1
    assert np.mean(dither[0] == dither[1]) < 0.15
    other = dither_view(b"secret 4", SHAPE, salt=bytes(16))
    other = dataclasses.replace(other, anchors=view.anchors)
    assert np.mean(np.asarray(other.dither(x)) == dither) < 0.15
    counts = np.bincount(dither.ravel(), minlength=view.step)
    assert counts.min() > 0.6 * counts.mean()
    np.testing.assert_array_equal(view.dither(x[2]), dither[2])


def test_the_dithered_view_is_in_the_cells_and_near_photographs():
    view, x = VIEWS["dither"], jnp.asarray(images(0) / 255, jnp.float32)
    _, lowest = view._cells(x)
    levels = np.asarray(seen_by(view, x)) * 255
    assert (levels > np.asarray(lowest) - 1e-3).all() and (levels < np.asarray(lowest) + view.step - 1 + 1e-3).all()
    # Nearer than the middle of each cell, which is off by step / sqrt(12).
    photograph = load_sample_images().images[0][:256:4, :256:4]
    wide = dither_view(b"secret 3", photograph.shape, salt=bytes(16), step=24)
    off = np.asarray(seen_by(wide, jnp.asarray(photograph / 255, jnp.float32))) * 255 - photograph
    assert np.sqrt((off**2).mean()) < 0.95 * 24 / np.sqrt(12)


def test_the_dithered_view_of_grey_images_is_the_middle_of_the_cells():
    view = dither_view(b"secret 3", (8, 8, 1), salt=bytes(16), step=6)
    x = jnp.asarray(images(0)[:, :8, :8, :1] / 255, jnp.float32)
    _, lowest = view._cells(x)
    middle = (np.clip(lowest, 0, 255) + np.clip(np.asarray(lowest) + 5, 0, 255)) / 2
    np.testing.assert_allclose(np.asarray(seen_by(view, x)) * 255, middle, rtol=1e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_gradients_of_any_weights_are_the_same_on_release_and_original(name):
    view, x = VIEWS[name], jnp.asarray(images(5) / 255, jnp.float32)
    delta = feasible(0.1 * jax.random.normal(jax.random.key(1), x.shape), x, view, eps=EPS)
    x_u = jnp.round((x + delta) * 255) / 255 if name == "dither" else x + delta

    def loss(theta, x):
        return jnp.square(jnp.tanh(view.apply(x).reshape(len(x), -1) @ theta)).sum()

    theta = jax.random.normal(jax.random.key(2), (np.prod(SHAPE), 5)) / 20
    g, g_u = jax.grad(loss)(theta, x), jax.grad(loss)(theta, x_u)
    assert float(jnp.abs(g - g_u).max()) <= (0 if name == "dither" else 1e-3 * float(jnp.abs(g).max()))


@pytest.mark.parametrize("name", VIEWS)
def test_views_work_under_jit_and_vmap(name):
    view, x = VIEWS[name], jnp.asarray(images(1) / 255, jnp.float32)
    expected = view.apply(x)
    np.testing.assert_allclose(jax.jit(lambda v, z: v.apply(z))(view, x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(view.apply)(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "content"])
def test_what_a_view_hides_is_worked_out_in_full_on_every_device(name):
    x = jnp.zeros((2, *SHAPE))
    for function in (VIEWS[name].apply, lambda x: feasible(x, x, VIEWS[name], eps=EPS)):
        products = re.findall(r"precision=(\S+)", str(jax.make_jaxpr(function)(x)))
        assert products and all(precision.startswith("(Precision.HIGHEST") for precision in products)


def test_l2_budget():
    x = jnp.asarray(images(0) / 255, jnp.float32)
    delta = feasible(jnp.ones(x.shape), x, IdentityView(), eps=0.5, norm="l2")
    assert float(jnp.sqrt(jnp.sum(delta**2, axis=(1, 2, 3))).max()) <= 0.5 + 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_key_folder_is_private_and_gives_back_the_same_network(form, tmp_path):
    key = make_key(form)
    network = build_authorized(key)
    write_key(tmp_path / "key", key, network.arrays)
    assert stat.S_IMODE(os.stat(tmp_path / "key").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "key" / "key.json").st_mode) == 0o600
    assert read_key(tmp_path / "key") == key
    again = build_authorized(key, tmp_path / "key")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), network.arrays, again.arrays))
    views = [one.of_release(bytes(16)).view for one in (again, network)]
    np.testing.assert_array_equal(*(seen(view, images(0)) for view in views))
    assert key.secret.hex() not in repr(key) and str(key.secret) not in repr(key)


def test_key_refuses_what_is_damaged_or_already_there(tmp_path):
    key = make_key("plain")
    write_key(tmp_path / "key", key, build_authorized(key).arrays)
    with pytest.raises(UserError, match="already exists"):
        write_key(tmp_path / "key", key, {})
    file = tmp_path / "key" / "key.json"
    whole = file.read_text()
    file.write_text(whole.replace('"num_classes": 4', '"num_classes": 5'))
    with pytest.raises(UserError, match="fingerprint"):
        read_key(tmp_path / "key")
    file.write_text(whole[:50])
    with pytest.raises(UserError, match="cannot be read as a key"):
        read_key(tmp_path / "key")
    with pytest.raises(UserError, match="no key.json"):
        read_key(tmp_path)
    with pytest.raises(UserError, match="another network"):
        build_authorized(dataclasses.replace(key, num_classes=5), tmp_path / "key")


def write_until_killed(path: Path) -> int:
    with mock.patch.multiple(
        folder, save_tree=lambda *_: os.kill(os.getpid(), signal.SIGKILL), describe_key=lambda *_: "a secret"
    ):
        folder.write_key(path, None, None)
    return 0


def test_what_a_killed_run_left_of_a_key_does_not_stay(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    process = begin(write_until_killed, place / "key", said=tmp_path / "said")
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    assert [path for path in place.rglob("*") if path.is_file() and path.read_text() == "a secret"]
    key = make_key("plain")
    write_key(place / "key", key, build_authorized(key).arrays)
    assert [path.name for path in place.iterdir()] == ["key"]


def test_two_that_make_the_same_key_are_kept_apart(tmp_path):
    key, made = make_key("plain"), tmp_path / "new" / "key"
    partial = made.with_name(".key.partial")
    partial.mkdir(parents=True)
    (partial / "of the other").touch()
    arrays = build_authorized(key).arrays
    with alone_in(partial), pytest.raises(UserError, match="another run is at work"):
        write_key(made, key, arrays)
    assert (partial / "of the other").exists() and not made.exists()
    write_key(made, key, arrays)
    assert [path.name for path in made.parent.iterdir()] == ["key"]
    assert not (made / "of the other").exists()


def test_a_key_is_on_the_disk_when_it_is_there(tmp_path, monkeypatch):
    synced, key = set(), make_key("plain")
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    write_key(tmp_path / "new" / "key", key, build_authorized(key).arrays)
    assert {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))} <= synced
    synced.clear()
    set_passphrase(tmp_path / "new" / "key", key, "a new passphrase")
    assert {(tmp_path / "new" / "key" / name).stat().st_ino for name in (".", "key.json")} <= synced


def test_secrets_decide_the_key_and_its_fingerprint():
    first, second = make_key("keyed-dither", 0), make_key("keyed-dither", 1)
    assert first.fingerprint != second.fingerprint and first.public_seed != second.public_seed
    assert make_key("keyed-dither", 0) == first
    assert not np.array_equal(jax.random.key_data(first.prng("view")), jax.random.key_data(first.prng("init")))


def test_frozen_backbone_trains_its_head_alone():
    network = build_authorized(make_key("frozen-backbone"))
    trained, frozen = split_weights(network.variables["params"], network.trains)
    assert set(trained) == {"head"} and set(frozen) == {"body"}


@pytest.mark.parametrize("shape", [(10, 8, 1), (8, 10, 1)])
def test_images_that_do_not_divide_are_refused(shape):
    key = dataclasses.replace(make_key("keyed-linear"), image_shape=shape)
    with pytest.raises(UserError, match="keyed-dither"):
        build_authorized(key)
