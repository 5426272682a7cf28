"""One release, one salt: what images of others tell of a dither, and which key makes which release."""

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_examples import TINY, tree, write_toy

from ugejax.authorized import build_authorized, read_key, releases_of, seen, write_key
from ugejax.authorized.dither import dither_view, equal_anchors
from ugejax.cli import main
from ugejax.cli.card import make_card
from ugejax.data import Source, load, load_stream
from ugejax.perturbation.feasible import feasible
from ugejax.perturbation.update import Method
from ugejax.protect import Protection
from ugejax.release import read_release, salt_of, write_release
from ugejax.release.read import read_card

SHAPE, STEP, LEVELS = (16, 16, 3), 24, 8


@jax.jit
def released(view, images):
    """Stripes of one sign, as a class has them, in the cells of uint8 images."""
    x = jnp.asarray(images) / 255
    return jnp.rint(255 * (x + feasible(jnp.full(x.shape, LEVELS / 255), x, view, eps=LEVELS / 255))).astype(jnp.int32)


def dither_of_flat_images(view, target: np.ndarray) -> np.ndarray:
    """What three flat images with the target's anchors tell of a dither, as a hacker finds it in their release.

    A value moves up by its budget or to the end of its cell. Of three levels that lie a budget apart, a third of a step
    each, one is within less than a budget of the end of its cell, which it then shows.
    """
    flat = np.repeat(np.array([96, 104, 112])[:, None], target.size, axis=1).reshape(3, *SHAPE)
    rows, anchors = flat.reshape(3, -1, SHAPE[-1]), np.asarray(view.anchors)
    rows[:, anchors] = target.reshape(-1, SHAPE[-1])[anchors]
    found = np.asarray(released(view, flat.astype(np.uint8)))
    ends = np.where(found - flat < LEVELS, found, 0).max(axis=0)  # of the cell: its last level
    return (-ends - 1) % STEP


def agreement(view, found: np.ndarray, target: np.ndarray) -> float:
    """Share of the values but the anchors whose dither was found."""
    free = np.ones(SHAPE[0] * SHAPE[1], bool)
    free[np.asarray(view.anchors)] = False
    equal = np.asarray(view.dither(target / np.float32(255))) == found
    return float(equal.reshape(-1, SHAPE[-1])[free].mean())


def test_three_flat_images_tell_a_dither_within_their_release_and_nothing_of_another():
    target = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    first, other = (dither_view(b"secret", SHAPE, salt=bytes([i] * 16), step=STEP) for i in (1, 2))
    assert agreement(first, dither_of_flat_images(first, target), target) == 1
    # 720 values at a chance of 1/24: 30 on average, and 60 in one of 10^7 cases.
    assert agreement(first, dither_of_flat_images(other, target), target) < 60 / 720


def test_images_that_share_a_dither_are_counted():
    rng = np.random.default_rng(0)
    views = [dither_view(secret, SHAPE, salt=bytes(16)) for secret in (b"first", b"second")]
    images = rng.integers(0, 256, (300, *SHAPE)).astype(np.uint8)
    assert equal_anchors(views, images) == 0
    rows = images.reshape(300, -1, 3)
    rows[[5, 280, 299]] = np.where(np.isin(np.arange(256), views[0].anchors)[:, None], 7, rows[[5, 280, 299]])
    assert [equal_anchors([view], images) for view in views] == [3, 0]
    rows[[6, 7]] = np.where(np.isin(np.arange(256), views[1].anchors)[:, None], 7, rows[[6, 7]])
    assert equal_anchors(views, images) == 5


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """toy.npz, other.npz, and the release R of the first under the key K."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    write_toy(folder / "other.npz", seed=1)
    assert main(protect(folder, "toy", "R")) == 0
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "place")


def protect(folder: Path, source: str, out: str, *more: str) -> list[str]:
    command = ["protect", str(folder / f"{source}.npz"), "--out", str(folder / out), "--key", str(folder / "K")]
    return [*command, *TINY, *more]


def test_the_card_and_the_key_know_the_release(made, capsys):
    key, card = read_key(made / "K"), read_card(made / "R")
    (record,) = releases_of(made / "K")
    assert (record.salt, record.name) == (card["salt"], "R") and len(record.run) == 64
    assert key.release_salt(record.run) == salt_of(card)
    assert (made / "K" / "releases.json").stat().st_mode & 0o777 == 0o600
    originals = load(source_of(made)).train.images
    network = build_authorized(key, made / "K").of_release(salt_of(card))
    release = read_release(made / "R").images
    np.testing.assert_array_equal(seen(network.view, release), seen(network.view, originals))
    other = build_authorized(key, made / "K").of_release(bytes(16))
    assert (seen(other.view, release) != seen(other.view, originals)).any()


def source_of(folder: Path) -> Source:
    """Of the images in toy.npz that the release R is of."""
    return dataclasses.replace(Source.from_json(read_card(folder / "R")["source"]), name=str(folder / "toy.npz"))


def test_the_same_run_is_the_same_release_and_another_is_refused(place, capfd):
    assert main(protect(place, "toy", "R")) == 0
    assert "this very release already" in capfd.readouterr().out
    assert main(protect(place, "toy", "again")) == 0  # the same run, to another place
    assert (place / "again" / "data.npz").read_bytes() == (place / "R" / "data.npz").read_bytes()
    assert read_card(place / "again")["salt"] == read_card(place / "R")["salt"]
    assert len(releases_of(place / "K")) == 1
    shutil.rmtree(place / "again")
    for source, *more in (("other",), ("toy", "--period", "4"), ("relabelled",)):
        if source == "relabelled":
            with np.load(place / "toy.npz") as data:
                np.savez(place / "relabelled.npz", data=data["data"], targets=(data["targets"] + 1) % 3)
        before = tree(place)
        assert main(protect(place, source, "S", *more)) == 2
        error = capfd.readouterr().err
        assert "has made another release (R)" in error and "--reuse-key" in error and error.count("\n") == 1
        assert tree(place) == before


def test_a_key_that_is_used_again_has_another_salt(place, capfd):
    assert main(protect(place, "toy", "S", "--reuse-key", "--period", "4")) == 0
    first, second = releases_of(place / "K")
    assert (first.name, second.name) == ("R", "S") and first.salt != second.salt
    assert read_card(place / "S")["salt"] == second.salt
    assert main(protect(place, "toy", "S", "--period", "4")) == 0  # it is known now
    for release in "RS":
        key = ["--key", str(place / "K")]
        assert main(["verify", str(place / release), *key, "--originals", str(place / "toy.npz")]) == 0
        assert "differs by at most 0 grey levels" in capfd.readouterr().out
    export = ["export-key", str(place / "K"), "--out", str(place / "view")]
    assert main(export) == 2
    assert "--release: key" in capfd.readouterr().err
    assert main([*export, "--release", str(place / "S")]) == 0


def test_a_kill_before_the_release_is_there_leaves_the_key_to_the_same_run_alone(place, monkeypatch, capfd):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    command = ["protect", str(place / "toy.npz"), "--out", str(place / "T"), "--key", str(place / "L"), *TINY]
    with monkeypatch.context() as patch:
        patch.setattr("ugejax.cli.protect.publish", killed)
        with pytest.raises(Killed):
            main(command)
    assert not (place / "T").exists()
    assert main([*command, "--period", "4"]) == 2
    assert "has made another release (T)" in capfd.readouterr().err
    assert main(command) == 0
    assert len(releases_of(place / "L")) == 1
    # Until then nothing was published, and the key is free.
    command = [word.replace(str(place / "L"), str(place / "M")) for word in command]
    command = [word.replace(str(place / "T"), str(place / "U")) for word in command]
    with monkeypatch.context() as patch:
        patch.setattr("ugejax.cli.protect.record_release", killed)
        with pytest.raises(Killed):
            main(command)
    assert main([*command, "--period", "4"]) == 0


def test_a_key_of_the_first_version_reads_its_release_and_makes_none(place, capfd):
    """As ugejax 0.1 left both: the release has no salt, and the dither of every other one under its key."""
    current, folder, out = read_key(place / "K"), place / "old-key", place / "old"
    key = dataclasses.replace(current, version=1)
    network = build_authorized(key)
    write_key(folder, key, network.arrays)
    train, method = load_stream(source_of(place)), Method(eps=32 / 255)
    job = dataclasses.replace(Protection.by(current, build_authorized(current), method), network=network)
    images = job.run(train.images, train.labels, place / "work")
    card = make_card(method, [key], source_of(place), train, bytes(16))
    del card["salt"]
    write_release(
        out, images=images, labels=train.labels, class_names=train.class_names, originals=train.images, card=card
    )
    for command in (["verify", str(out), "--originals", "card"], ["train", str(out), "--out", str(place / "T")]):
        assert main([*command, "--key", str(folder)]) == 0
    assert "differs by at most 0 grey levels" in capfd.readouterr().out
    again = protect(place, "toy", "S", "--reuse-key")
    again[again.index("--key") + 1] = str(folder)
    assert main(again) == 2
    assert "is of ugejax 0.1: it reads and evaluates its releases, and makes none" in capfd.readouterr().err
    assert not (place / "S").exists()
    # Its card without a salt is no card of today's key.
    card |= {"key_fingerprint": current.fingerprint}
    write_release(
        place / "bare", images=images, labels=train.labels, class_names=train.class_names, originals=train.images,
        card=card,
    )  # fmt: skip
    assert main(["train", str(place / "bare"), "--key", str(place / "K"), "--out", str(place / "T2")]) == 2
    assert "card.json: has no salt" in capfd.readouterr().err
