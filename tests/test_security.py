"""What SECURITY.md promises of files: nothing in them is run, nothing unpacks to any size or leads elsewhere."""

import ast
import contextlib
import io
import json
import os
import pickle
import shutil
import stat
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_examples import protect, tree, write_toy
from exchange_examples import live_pickles, make_splits, watched

from ugejax.app.cli import main
from ugejax.app.exchange import EXCHANGE_FORMS, read_labels
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.noise_files import NoiseFiles
from ugejax.app.release import read as reading
from ugejax.app.release import read_release
from ugejax.data import Source, load, tfds_source
from ugejax.errors import UserError

SOURCES = sorted((Path(__file__).parent.parent / "ugejax").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a release R and its key key-R."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    assert main(protect(folder, "R")) == 0
    return folder


def test_nothing_here_can_unpickle():
    used = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in UNPICKLERS & {name.split(".")[0] for name in names}:
                used.setdefault(path.name, set()).add(name)
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and node.value.value), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr == "dumps", path
    assert used == {"torch_file.py": {"pickle"}}  # which writes numbers as pickles do


class Exploit:
    """Unpickling this makes the file it was made with."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def planted(evil: bytes, sentinel: Path) -> dict[str, bytes]:
    """A pickle that runs something, by the kinds of file in which it may hide."""
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([Exploit(sentinel)], object), allow_pickle=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("data", "targets", "class_names"):
            file.writestr(f"{name}.npy", objects.getvalue())
    return {"itself": evil, "array of objects": objects.getvalue(), "archive of them": archive.getvalue()}


def of_source(name: str) -> Callable[[Path], object]:
    return lambda folder: load(Source(f"{folder}/{name}"))


def of_form(kind: str, name: str) -> Callable[[Path], object]:
    return lambda folder: EXCHANGE_FORMS[kind].read(f"{folder}/{name}", make_splits())


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "source archive": ("x.npz", of_source("x.npz")),
    "source pair": ("images.npy", of_source("images.npy,../sound/labels.npy")),
    "source labels": ("labels.npy", lambda folder: load(Source(f"{folder}/../sound/images.npy,{folder}/labels.npy"))),
    "image folder": ("cat/0.png", of_source("")),
    "release": ("data.npz", lambda folder: reading.read_data(folder)),
    "card": ("card.json", lambda folder: read_release(folder)),
    "manifest": ("manifest.csv", lambda folder: reading.read_manifest(folder)),
    "key": ("key.json", lambda folder: read_key(folder)),
    "labels": ("labels.npy", lambda folder: read_labels(folder / "labels.npy", make_splits())),
    "labels as text": ("labels.csv", lambda folder: read_labels(folder / "labels.csv", make_splits())),
    **{kind: ("x", of_form(kind, "x")) for kind in ("npz", "npy", "emn", "emn-class", "rem")},
    "png": ("0.png", of_form("png", "")),
    "hf": ("train/0.png", of_form("hf", "")),
}


@pytest.mark.parametrize("carrier", ["itself", "array of objects", "archive of them"])
@pytest.mark.parametrize("name", READERS)
def test_a_planted_pickle_is_never_run(name, carrier, tmp_path):
    sentinel, (file, read) = tmp_path / "ran", READERS[name]
    content = planted(live_pickles(sentinel)["os.system"], sentinel)[carrier]
    (tmp_path / "sound").mkdir()
    np.save(tmp_path / "sound" / "images.npy", np.zeros((4, 2, 2), np.uint8))
    np.save(tmp_path / "sound" / "labels.npy", [0, 1, 0, 1])
    folder = tmp_path / "folder"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_bytes(content)
    with watched() as seen, pytest.raises(UserError) as caught:
        read(folder)
    # A header is parsed, as a literal, of which nothing is run.
    assert set(seen) <= {"compile"} and not sentinel.exists()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_pickles_is_never_run(made, tmp_path):
    sentinel, folder = tmp_path / "ran", shutil.copytree(made / "key-R", tmp_path / "key")
    evil = live_pickles(sentinel)["os.system"]
    key = read_key(folder)
    for file in (folder / "network").rglob("*"):
        if file.is_file():
            file.write_bytes(evil)
    with watched() as seen, pytest.raises(UserError, match="network: the checkpoint is damaged"):
        build_authorized(key, folder)
    assert "pickle.find_class" not in seen and not sentinel.exists()


def test_the_description_of_a_tfds_folder_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    folder = tmp_path / "data" / "toy" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "toy", "version": "1.0.0"}')
    for text in (
        '{"pythonClassName": "planted.Feature"}',
        '{"featuresDict": {"features": {"image": {"python_class_name": "planted.Feature"}}}}',
        '{"type": "planted.Feature", "content": ""}',
        '{"python\\u0043lassName": "planted.Feature", "pythonClassName": "tensorflow_datasets.core.features.Text"}',
    ):
        (folder / "features.json").write_text(text)
        with pytest.raises(UserError, match="names a class of features that is not TFDS's own"):
            load(Source("toy", data_dir=str(tmp_path / "data")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("linked", ["version", "configuration", "description", "dataset_info.json"])
def test_no_link_hides_the_description_of_a_tfds_folder(linked, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "data" / "toy" / "1.0.0"
    elsewhere.mkdir()
    folder.parent.mkdir(parents=True)
    (elsewhere / "dataset_info.json").write_text('{"name": "toy", "version": "1.0.0"}')
    (elsewhere / "features.json").write_text('{"pythonClassName": "planted.Feature"}')
    name = "toy"
    if linked == "version":
        folder.symlink_to(elsewhere)
    elif linked == "configuration":
        (tmp_path / "some").mkdir()
        elsewhere.rename(tmp_path / "some" / "1.0.0")
        (folder.parent / "small").symlink_to(tmp_path / "some")
        name = "toy/small:1.0.0"
    else:
        shutil.copytree(elsewhere, folder)
        file = folder / ("features.json" if linked == "description" else linked)
        file.unlink()
        file.symlink_to(elsewhere / file.name)
    with pytest.raises(UserError, match="is a link, which is not followed|that is not TFDS's own"):
        load(Source(name, data_dir=str(tmp_path / "data")))
    assert not (tmp_path / "ran").exists()


def test_no_configuration_of_a_tfds_folder_leads_out_of_it(tmp_path):
    (tmp_path / "toy").mkdir()
    for name in ("toy/..:1.0.0", "toy/.", "toy/.hidden"):
        with pytest.raises(UserError, match="neither 'digits' nor 'digits-photos' nor the name of a TFDS dataset"):
            load(Source(name, data_dir=str(tmp_path)))


def test_the_classes_that_a_tfds_folder_may_name_are_those_that_tfds_has():
    import tensorflow_datasets as tfds

    # Of others it would import the modules.
    assert set(tfds.features.FeatureConnector._registered_features) >= tfds_source._FEATURE_CLASSES


def array_header(shape: tuple[int, ...], dtype: str = "|u1", version: int = 1, filling: int = 0) -> bytes:
    """The beginning of a `.npy` file that declares this."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b" " * filling + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def archive_of(path: Path, data: bytes, *, compress: int = zipfile.ZIP_DEFLATED, name: str = "data.npy") -> str:
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr(name, data)
        archive.writestr("targets.npy", data)
    return str(path)


def test_what_a_source_declares_is_looked_at_before_it_is_read(tmp_path):
    path = tmp_path / "x.npz"
    tracemalloc.start()
    for data, says in (
        (array_header((2**33,)), "array 'data' [8589934592] would unpack to more than 4 GiB; save it with np.savez"),
        (array_header((3,), "<U500000000"), "would unpack to more than 4 GiB"),
        (array_header((2**62, 2**62)), "would unpack to more than 4 GiB"),
        (array_header((2**20,)), "not a whole NumPy file"),
        (array_header((-4,)), "not a whole NumPy file"),
        (array_header((4,), filling=11_000), "not a whole NumPy file"),
        (array_header((4,), version=2, filling=2**24), "not a whole NumPy file"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(2**20), "not a whole NumPy file"),
        (array_header((2,), "|V8"), "not of plain numbers"),
    ):
        archive_of(path, data)
        tracemalloc.reset_peak()
        with pytest.raises(UserError) as caught:
            load(Source(str(path)))
        assert str(caught.value).startswith(f"{path}: ") and says in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 2**26
        (tmp_path / "images.npy").write_bytes(data)
        with pytest.raises(UserError):
            load(Source(f"{tmp_path}/images.npy,{tmp_path}/images.npy"))
    tracemalloc.stop()


def test_what_is_not_compressed_may_be_as_large_as_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("ugejax.data.arrays._MOST_UNPACKED", 100)
    images, labels = np.zeros((40, 2, 2), np.uint8), np.arange(40, dtype=np.uint8) % 4
    np.savez(tmp_path / "x.npz", data=images, targets=labels)
    assert load(Source(str(tmp_path / "x.npz"))).n_available == 40
    np.savez_compressed(tmp_path / "y.npz", data=images.repeat(50, axis=1), targets=labels)
    with pytest.raises(UserError, match="would unpack to more than"):
        load(Source(str(tmp_path / "y.npz")))


@pytest.mark.parametrize("name", ["../data.npy", "/tmp/data.npy", "..\\data.npy", "data/../../data.npy"])
def test_no_archive_leads_out_of_its_folder(name, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    archive_of(inner / "x.npz", array_header((4,)) + bytes(4), name=name)
    before = tree(tmp_path)
    for read in (of_source("x.npz"), of_form("npz", "x.npz"), of_form("emn", "x.npz")):
        with pytest.raises(UserError):
            read(inner)
    shutil.copy(inner / "x.npz", inner / "data.npz")
    with pytest.raises(UserError, match="must hold the arrays data and targets and nothing else"):
        reading.read_data(inner)
    (inner / "data.npz").unlink()
    assert tree(tmp_path) == before


def peak(read: Callable[[Path], object], folder: Path) -> int:
    """Bytes of memory that a reading takes that ends in a refusal."""
    tracemalloc.start()
    with pytest.raises(UserError):
        read(folder)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken


@pytest.mark.parametrize("lines", ["1,2,a,b\n", ",,,,,,,,\n", '"\n"', "1,2,a\n"])
def test_a_manifest_takes_memory_in_proportion_to_its_size(lines, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("index,label,class_name,sha256\n" + lines * (2**22 // len(lines)))
    assert peak(reading.read_manifest, tmp_path) < 3 * path.stat().st_size
    sound = f"1,2,a,{'0' * 64}\n"
    path.write_text("index,label,class_name,sha256\n" + sound * (2**20 // len(sound)) + lines)
    assert peak(reading.read_manifest, tmp_path) < 12 * path.stat().st_size


def test_a_card_takes_no_more_memory_than_its_images_account_for(made, tmp_path):
    folder = shutil.copytree(made / "R", tmp_path / "R")
    for content in ('{"class_names": [' + "[]," * 2**22 + "0]}", "[" * 2**23, '{"a":0,' * 2**20, "[" + "{}," * 2**20):
        (folder / "card.json").write_text(content)
        assert peak(reading.read_card, folder) < 2**22
    (folder / "card.json").write_text('{"class_names": [' + "[]," * 2**18 + "0]}")  # of the size that is read
    assert peak(reading.read_card, folder) < 2**25
    with pytest.raises(UserError, match="class_names must be a list of text"):
        reading.read_card(folder)


def test_a_card_may_name_a_class_for_each_image(tmp_path):
    n = 40_000
    np.savez(tmp_path / "data.npz", data=np.zeros((n, 8, 8, 1), np.uint8), targets=np.arange(n, dtype=np.int32))
    names = [f"class of the {n:06d}th image" for n in range(n)]
    (tmp_path / "card.json").write_text(json.dumps({"class_names": names}, indent=2))
    assert (tmp_path / "card.json").stat().st_size > 2**20
    assert reading.read_card(tmp_path)["class_names"] == names
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:  # which is smaller than what it declares
        archive.writestr("targets.npy", b"")
        archive.getinfo("targets.npy").file_size = 2**31
    with pytest.raises(UserError, match="larger than that of any release"):
        reading.read_card(tmp_path)


@pytest.mark.parametrize(("place", "read"), [("cat/0.png", of_source("")), ("x.npz", of_source("x.npz")),
                                             ("x", of_form("npz", "x")), ("x", of_form("rem", "x"))])  # fmt: skip
def test_pipes_are_refused_and_not_waited_for(place, read, tmp_path):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "dog").mkdir()
    shutil.copy(Path(__file__).parent.parent / "docs" / "cifar10-images.png", tmp_path / "dog" / "0.png")
    os.mkfifo(tmp_path / place)
    with pytest.raises(UserError, match="not a (plain )?file"):
        read(tmp_path)


def test_a_key_is_on_the_disk_before_its_release_has_its_name(tmp_path, monkeypatch):
    synced, rename, found = set(), os.rename, []

    def watched_rename(source, target, **more):
        if Path(target) == tmp_path / "R":
            key = tmp_path / "key-R"
            files = [key, *(path for path in key.rglob("*") if "runs" not in path.parts)]
            found.append({path.name for path in files if path.stat().st_ino not in synced})
        rename(source, target, **more)

    write_toy(tmp_path / "toy.npz")
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "rename", watched_rename)
    assert main(protect(tmp_path, "R", "--parametrisation", "generator", "--perturbation-epochs", "1")) == 0
    assert found == [set()]
    assert {path.stat().st_ino for path in (tmp_path, *(tmp_path / "R").rglob("*"))} <= synced


@contextlib.contextmanager
def watched_modes(private: Callable[[Path], bool]) -> Iterator[list[str]]:
    """What is made within it where it is private, while others could have opened it."""
    too_open, active = [], True

    def hook(event: str, arguments: tuple) -> None:
        if (
            not active
            or event not in ("open", "os.mkdir", "os.chmod")
            or not isinstance(arguments[0], (str, os.PathLike))
        ):
            return
        path = Path(arguments[0])
        if not private(path):
            return
        os.umask(mask := os.umask(0o777))
        if event == "os.chmod":
            too_open.append(f"{path} is given another mode")
        elif (event == "os.mkdir" or arguments[2] & os.O_CREAT) and 0o077 & ~mask:
            too_open.append(f"{path} is made with umask {mask:03o}")

    sys.addaudithook(hook)
    mask = os.umask(0)
    try:
        yield too_open
    finally:
        active = False
        os.umask(mask)


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_what_is_private_is_never_open_to_others(passphrase, tmp_path, monkeypatch):
    monkeypatch.setattr("ugejax.app.seal._SCRYPT", (16, 8, 1))
    monkeypatch.chdir(tmp_path)
    Path("passphrase").write_text("correct horse")
    write_toy(Path("toy.npz"))
    given = ["--passphrase-file", "passphrase"] if passphrase else []
    generator = ["--parametrisation", "generator", "--perturbation-epochs", "1"]

    def private(path: Path) -> bool:
        parts = path.absolute().relative_to(tmp_path).parts if tmp_path in path.absolute().parents else ("",)
        return parts[0] in ("key-R", ".key-R.partial") or "view" in parts[0] or "checkpoints" in "/".join(parts)

    with watched_modes(private) as too_open:
        assert main(protect(tmp_path, "R", *generator, *given)) == 0
        assert main(["train", "R", "--key", "key-R", "--out", "T", *given]) == 0
        assert main(["export-key", "key-R", "--out", "view", *given]) == 0
        files = NoiseFiles(Path("key-R/runs/noise"), np.zeros((3, 2, 2, 1), np.float32), np.arange(3), epoch=0)
        with files.next_epoch():
            pass
        assert main(["passphrase", "key-R", *given, "--new-passphrase-file", "passphrase"]) == 0
    assert too_open == []
    (checkpoints,) = Path("T").glob("checkpoints-*")
    assert [path.name for path in checkpoints.iterdir()] == (["2.sealed"] if passphrase else ["2"])
    found = [Path("key-R"), checkpoints, Path("view"), *Path("key-R").rglob("*"), *checkpoints.rglob("*")]
    assert len(found) > 10
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    for path in (Path("R"), *Path("R").iterdir()):  # which is for everybody
        assert stat.S_IMODE(path.stat().st_mode) & 0o077


def test_a_key_is_not_pickled(made):
    key = read_key(made / "key-R")
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)
    assert key.secret.hex() not in repr(key) and repr(key.secret) not in repr(key)
