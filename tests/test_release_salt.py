"""One release, one salt: what images of others tell of a dither, and which key makes which release."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_examples import TINY, tree, write_toy

from experiments import given_away
from experiments.composed import Job
from ugejax.app.cli import main
from ugejax.app.keys import build_authorized, read_key, releases_of, write_key
from ugejax.app.protection import Protection
from ugejax.app.release import read_release, salt_of, write_release
from ugejax.app.release.card import make_card
from ugejax.app.release.read import read_card
from ugejax.authorized import new_key, seen
from ugejax.data import Dataset, Source, load, load_stream
from ugejax.training import Recipe
from ugejax.uge import Method
from ugejax.views import dither_view, equal_anchors

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def job() -> Job:
    """Forty coloured images of noise, four classes, and a key."""
    rng, labels = np.random.default_rng(0), np.arange(40, dtype=np.int32) % 4
    data = Dataset(rng.integers(0, 256, (40, *SHAPE)).astype(np.uint8), labels, tuple("abcd"))
    key = new_key(
        b"seed 0", form="keyed-dither", network="mlp", image_shape=SHAPE, num_classes=4, step=24,
        recipe=Recipe(epochs=1), from_seed=True,
    )  # fmt: skip
    return Job(data, data, key, build_authorized(key).of_release(bytes(16)), 1)


def test_planted_images_tell_a_dither_within_their_release_and_nothing_of_another(job):
    """Three flat images with a target's anchors are what an attacker needs; see the experiment."""
    *_, pair, two, within, beyond, shared = given_away.measure(job)
    assert within["share"] == 1
    # Of 720 values 30 agree by chance of 1/24, and 60 in one of 10^7 cases.
    assert beyond["share"] < 60 / 720
    # An original tells where a value stopped at the end of its cell: 8 of 24 cases.
    assert pair["share"] == pytest.approx(1 / 3, abs=0.02)
    assert 0.2 < two["share"] < 1 / 3
    assert shared["share"] == 0


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
        patch.setattr("ugejax.app.cli.protect.publish", killed)
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
        patch.setattr("ugejax.app.cli.protect.record_release", killed)
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
