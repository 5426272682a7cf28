"""Sets that need not fit into memory: read, protected and written piece by piece, with the bytes of the whole."""

import dataclasses
import functools
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from release_examples import make_arguments

from ugejax.app import protection as job_module
from ugejax.app import shards
from ugejax.app.cli import main
from ugejax.app.cli import protect as protect_module
from ugejax.app.noise_files import NoiseFiles
from ugejax.app.protection import Protection
from ugejax.app.release import quality, write_release
from ugejax.app.release import write as write_module
from ugejax.app.shards import ImageShards
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.data import Source, folder, load, load_stream, stream
from ugejax.errors import UserError
from ugejax.networks import build, initial_variables
from ugejax.perturbations import start
from ugejax.perturbations.parametrisation import NoiseState
from ugejax.training import Recipe, fit, initial_state, make_train_step
from ugejax.uge import Method
from ugejax.views import dither_view


def write_folder(root: Path, *, n: int = 24, size: int = 8, colour: tuple[int, ...] = ()) -> Path:
    """n images of three classes; grey, but for those of which the number is in `colour`."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
    for index, image in enumerate(pixels):
        path = root / "abc"[index * 3 // n] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if index in colour else image[..., 0]).save(path)
    return root


@pytest.fixture
def small_pieces(monkeypatch):
    """Two images at a time wherever something is done piece by piece."""
    two = functools.partial(stream.pieces, size=2)
    for module in (stream, write_module):
        monkeypatch.setattr(module, "pieces", two)
    monkeypatch.setattr(quality, "_CHUNK", 2)


@pytest.mark.parametrize("colour", [(), (0,), (23,), (22, 3)])
@pytest.mark.parametrize("n_test", [None, 3])
def test_a_stream_has_the_images_of_the_loaded_set(tmp_path, small_pieces, colour, n_test):
    source = Source(str(write_folder(tmp_path, colour=colour)), n_train=14, n_test=n_test, seed=1)
    loaded, opened = load(source), load_stream(source)
    assert opened.images.shape == loaded.train.images.shape
    np.testing.assert_array_equal(opened.images[:], loaded.train.images)
    np.testing.assert_array_equal(opened.images[3:9], loaded.train.images[3:9])
    np.testing.assert_array_equal(opened.images[np.array([2, 5, 13])], loaded.train.images[[2, 5, 13]])
    np.testing.assert_array_equal(opened.labels, loaded.train.labels)
    assert opened.class_names == loaded.train.class_names
    assert opened.n_test == (n_test or 0)


def test_the_digest_of_a_stream_is_of_the_images_however_they_are_read(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3)).astype(np.uint8)
    images[2:] = images[2:, :, :, :1]  # grey, as pieces of these alone are read

    def read(indices):
        found = images[indices]
        return found[..., :1] if (found == found[..., :1]).all() else found

    digests, in_pieces = set(), stream.pieces
    for size in (1, 3, 256):
        monkeypatch.setattr(stream, "pieces", functools.partial(in_pieces, size=size))
        digests.add(stream.open_stream("here", read, np.arange(7)).digest)
    assert len(digests) == 1
    assert stream.open_stream("here", read, np.arange(6)).digest not in digests


def test_photographs_come_in_pieces_of_few():
    assert [part.stop - part.start for part in stream.pieces(12, of=(3456, 4608, 3))] == [5, 5, 2]
    assert [*stream.pieces(2, of=(40_000, 40_000, 3))] == [slice(0, 1), slice(1, 2)]
    assert [*stream.pieces(300, of=(32, 32, 3))] == [slice(0, 256), slice(256, 300)]


def test_the_digest_of_a_stream_tells_sets_apart(tmp_path, small_pieces):
    source = Source(str(write_folder(tmp_path)))
    digest = load_stream(source).images.digest
    assert load_stream(source).images.digest == digest
    Image.new("L", (8, 8)).save(tmp_path / "c" / "20.png")
    assert load_stream(source).images.digest != digest


def test_what_only_a_late_image_has_wrong_is_found_before_anything_is_written(tmp_path, small_pieces, capsys):
    source = write_folder(tmp_path / "source")
    command = ["protect", str(source), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key")]
    Image.new("L", (9, 8)).save(source / "c" / "23.png")
    assert main(command) == 2
    assert "23.png is 9 x 8, but" in capsys.readouterr().err
    (source / "c" / "23.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(command) == 2
    assert "23.png: not a whole PNG" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_images_that_change_while_they_are_read_are_refused(tmp_path):
    source = write_folder(tmp_path)
    opened = load_stream(Source(str(source))).images
    Image.new("RGB", (8, 8)).save(source / "a" / "00.png")
    with pytest.raises(UserError, match="changed while they were read"):
        opened[:4]


def test_shards_hold_what_was_written_in_batches_of_any_size(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)

    def opened() -> ImageShards:
        return ImageShards(tmp_path / "shards", images.shape, shard_bytes=5 * 48)

    held = opened()
    held.write(0, (images[start : start + 3] for start in range(0, 12, 3)))
    assert held.missing() == [slice(12, 20)]
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["000000000000.u8", "000000000006.u8"]

    def killed():
        yield images[12:13]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        held.write(12, killed())
    held = opened()
    assert held.missing() == [slice(12, 20)]
    opened().write(14, [images[14:17]])  # another process
    assert held.missing() == [slice(12, 14), slice(17, 20)]
    assert held.missing(slice(13, 18)) == [slice(13, 14), slice(17, 18)]
    assert held.missing(slice(14, 17)) == held.missing(slice(2, 7)) == []
    held.write(17, [images[17:20]])
    held.write(12, [images[12:14]])
    assert opened().missing() == []
    assert len(held) == 20
    for part in (slice(None), slice(5, 7), slice(0, 6), slice(11, 19), slice(19, 40)):
        np.testing.assert_array_equal(held[part], images[part])
    held.remove()
    assert not (tmp_path / "shards").exists()


def test_a_release_written_piece_by_piece_has_the_bytes_of_numpys_archive(tmp_path, small_pieces):
    arguments = make_arguments()
    images = ImageShards(tmp_path / "files", arguments["images"].shape, shard_bytes=1)
    images.write(0, (arguments["images"][i : i + 1] for i in range(6)))
    for name, changes in (("arrays", {}), ("shards", {"images": images})):
        write_release(tmp_path / name, **{**arguments, **changes}, save_images=True)
    buffer = io.BytesIO()
    np.savez(buffer, data=arguments["images"], targets=arguments["labels"])
    assert (tmp_path / "shards" / "data.npz").read_bytes() == buffer.getvalue()
    for path in (tmp_path / "arrays").rglob("*.*"):
        assert (tmp_path / "shards" / path.relative_to(tmp_path / "arrays")).read_bytes() == path.read_bytes()


def test_protect_holds_few_images_goes_on_from_whole_shards_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    source = write_folder(tmp_path / "source")

    def command(name: str) -> list[str]:
        return [
            "protect", str(source), "--out", str(tmp_path / name), "--key", str(tmp_path / f"key-{name}"),
            "--seed", "0", "--network", "mlp",
        ]  # fmt: skip

    assert main(command("whole")) == 0
    asked = []
    decode = folder.decode_images

    def counted(n, *arguments, **options):
        asked.append(n)
        return decode(n, *arguments, **options)

    monkeypatch.setattr(folder, "decode_images", counted)
    for module in (stream, write_module):
        monkeypatch.setattr(module, "pieces", functools.partial(stream.pieces, size=5))
    monkeypatch.setattr(quality, "_CHUNK", 5)
    monkeypatch.setattr(job_module, "at_a_time", lambda shape, most: min(most, 4))
    monkeypatch.setattr(protect_module, "ImageShards", functools.partial(ImageShards, shard_bytes=8 * 64))
    write = shards.synced
    written = []

    def cut_off(path):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "synced", cut_off)
        assert main(command("cut")) == 130
    (first,) = (tmp_path / "key-cut" / "runs").glob("*/released/*.u8")
    assert not (tmp_path / "cut").exists()
    asked.clear()
    assert main(command("cut")) == 0
    assert max(asked) <= 6
    # All for the check before, the first for its size and with each of the five pieces, and for the figures after; and
    # to be released only what the first shard does not hold.
    assert sum(asked) == (1 + 24 + 5) + (24 - 8) + 24
    assert not first.parent.exists()
    for file in ("data.npz", "card.json", "manifest.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_network_trains_on_a_stream_as_on_resident_images(tmp_path):
    opened = load_stream(Source(str(write_folder(tmp_path))))
    recipe, module = Recipe(epochs=2, batch_size=5, mirror=True), build("mlp", 3)
    optimizer = recipe.build_optimizer(24)
    state = initial_state(initial_variables(module, jax.random.key(0), (8, 8, 1)), optimizer)
    step = make_train_step(module, optimizer, recipe)
    resident, streamed = (
        fit(step, state, images, jnp.asarray(opened.labels), recipe, jax.random.key(1))
        for images in (jnp.asarray(opened.images[:]), opened.images)
    )
    assert int(streamed.step) == 8
    jax.tree.map(np.testing.assert_array_equal, streamed, resident)


def test_what_the_devices_cannot_hold_is_optimised_batch_by_batch_with_its_noise_in_files(tmp_path, monkeypatch):
    method = Method(
        parametrisation="sample-wise", epochs=2, batch_size=5, surrogates=("mlp",), feature_loss="error-max",
        transforms=(),
    )  # fmt: skip
    network = AuthorizedNetwork(dither_view(b"secret 0", (8, 8, 1), salt=bytes(16), step=24), None, {}, "all")
    keys = jax.random.split(jax.random.key(0), 3)
    job = Protection(method, network, Recipe(), 3, keys[0], keys[1], b"secret", rounding_key=keys[2])
    opened, asked = load_stream(Source(str(write_folder(tmp_path / "source")))), []

    def counted(indices):
        asked.append(len(indices))
        return opened.images.read(indices)

    images, labels = dataclasses.replace(opened.images, read=counted), opened.labels
    resident = job.learn(images, labels, tmp_path)
    asked.clear()
    monkeypatch.setattr(job_module, "_RESIDENT_BYTES", 0)
    monkeypatch.setattr(start, "pieces", functools.partial(stream.pieces, size=5))
    work, take = tmp_path / "work", NoiseFiles.take
    work.mkdir()

    def cut_off_in_epoch_one(files, state, index):
        take(files, state, index)
        if int(state.step) == 3:
            raise KeyboardInterrupt

    def cut_off_after_an_epoch(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(NoiseFiles, "take", cut_off_in_epoch_one)
        job.learn(images, labels, work)
    with pytest.raises(KeyboardInterrupt):
        job.learn(images, labels, work, cut_off_after_an_epoch)
    assert [path.name for path in (work / "noise-files").iterdir()] == ["1.f32"]
    reports = []
    noise = job.learn(images, labels, work, lambda *given: reports.append(given[:3]))
    assert reports == [("perturbation", 2, 2)]
    assert max(asked) == 5
    np.testing.assert_array_equal(noise[:], resident)


def test_the_noise_of_a_batch_is_fetched_when_the_next_one_is_on_the_device(tmp_path):
    fetched = []

    class Rows:
        """Rows on a device, which note when they are asked for."""

        def __init__(self, value: float):
            self.value = value

        def copy_to_host_async(self):
            pass

        def __array__(self, dtype=None, copy=None):
            fetched.append(self.value)
            return np.full((2, 2, 2, 1), self.value, np.float32)

    files = NoiseFiles(tmp_path, np.zeros((1, 2, 2, 1), np.float32), np.zeros(7, np.int32), epoch=0)
    seen = []
    with files.next_epoch():
        for place, value in enumerate((1.0, np.inf, 3.0)):
            state = NoiseState(jnp.zeros((), jnp.int32), Rows(value), ())
            files.take(state, np.array([2 * place, 2 * place + 1]))
            seen.append(list(fetched))
    assert seen == [[], [1], [1, np.inf]] and fetched == [1, np.inf, 3]
    assert not files.finite
    files.advance()
    assert files[:][:, 0, 0, 0].tolist() == [1, 1, np.inf, np.inf, 3, 3, 0]
