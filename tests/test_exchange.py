"""The forms of exchange: what other tools write is read, what they would misread is refused, nothing is lost."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exchange_examples import NAMES, SIDES, make_noise, make_splits, protected, torch_file
from PIL import Image

from ugejax.app.exchange import (
    EXCHANGE_FORMS,
    Exported,
    Form,
    Imported,
    check_labels,
    check_protected,
    read_labels,
)
from ugejax.data import Dataset, Source, Splits, load
from ugejax.errors import UserError

LEVELS = make_noise(12)


def write_png(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{index}.png")
    return folder


def dumped(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def foreign(kind: str, place: Path, splits: Splits, levels: np.ndarray) -> str:
    """A set of noise in grey levels [M, C, H, W], as the tool of this form writes it."""
    if kind == "png":
        return str(write_png(place, protected(splits, levels)))
    if kind == "hf":
        write_png(place / "train", protected(splits, levels))
        rows = [f"{i}.png,{label}" for i, label in enumerate(splits.train.labels)]
        (place / "train" / "metadata.csv").write_text("\n".join(["file_name,label", *rows[::-1]]))
        return str(place)
    if kind == "npz":
        np.savez(place, data=protected(splits, levels), targets=splits.train.labels.tolist())
        return f"{place}.npz"
    if kind == "npy":
        np.save(place, protected(splits, levels) / 255)
        np.save(f"{place}-labels", np.eye(3)[splits.train.labels])
        return f"{place}.npy,{place}-labels.npy"
    if kind == "rem":
        place.write_bytes(pickle.dumps(levels))
        return str(place)
    place.write_bytes(torch_file((levels / 255).astype(np.float32), legacy=kind == "emn-class"))
    return str(place)


def refusal(kind: str, place: object, splits: Splits) -> str:
    with pytest.raises(UserError) as caught:
        EXCHANGE_FORMS[kind].read(str(place), splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_what_a_tool_writes_is_read(kind, channels, tmp_path: Path):
    splits = make_splits(channels=channels)
    levels = make_noise(3 if kind == "emn-class" else 12, channels=channels)
    each = levels[splits.train.labels] if kind == "emn-class" else levels
    imported = EXCHANGE_FORMS[kind].read(foreign(kind, tmp_path / "set", splits, levels), splits)
    # Negative noise as well as positive, clipped at black and white.
    np.testing.assert_array_equal(imported.images, protected(splits, each))
    if imported.labels is not None:
        check_labels(imported.labels, splits, "set")
    assert (imported.labels is not None) == (kind in ("hf", "npz", "npy"))
    assert imported.sha256 and all(len(digest) == 64 for digest in imported.sha256.values())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_nothing_is_lost_on_the_way_there_and_back(kind, channels, tmp_path: Path):
    splits = make_splits(channels=channels)
    largest = 127 if kind == "rem" else 255
    levels = make_noise(3, channels=channels, largest=largest)[splits.train.labels].astype(int)
    if kind != "emn-class":
        levels = make_noise(12, channels=channels, largest=127) * (largest // 127)
    images = protected(splits, levels)
    form = EXCHANGE_FORMS[kind]
    originals = splits.train.images if form.noise else None
    form.write(tmp_path / "set", Exported(images, splits.train.labels, NAMES, originals))
    imported = form.read(str(tmp_path / "set"), splits)
    np.testing.assert_array_equal(imported.images, images)
    check_protected(imported.images, splits.train, "set")
    if imported.labels is not None:
        check_labels(imported.labels, splits, "set")


@pytest.mark.parametrize("kind", EXCHANGE_FORMS)
def test_of_a_set_of_all_images_those_that_were_chosen_are_taken(kind, tmp_path: Path):
    everything, chosen = make_splits(), make_splits(chosen=(1, 5, 6, 11))
    levels = LEVELS[:3] if kind == "emn-class" else LEVELS
    place = foreign(kind, tmp_path / "set", everything, levels)
    each = levels[everything.train.labels] if kind == "emn-class" else levels
    imported = EXCHANGE_FORMS[kind].read(place, chosen)
    np.testing.assert_array_equal(imported.images, protected(everything, each)[[1, 5, 6, 11]])
    if imported.labels is not None:
        check_labels(imported.labels, chosen, "set")
    # A set of these four alone is read as well, and one of any other number is not.
    if kind != "emn-class":
        alone = foreign(kind, tmp_path / "alone", chosen, LEVELS[:4])
        np.testing.assert_array_equal(EXCHANGE_FORMS[kind].read(alone, chosen).images, protected(chosen, LEVELS[:4]))
        five = foreign(kind, tmp_path / "five", make_splits(5), LEVELS[:5])
        assert "5 images, but there are 12 originals (or the 4" in refusal(kind, five, chosen)


def test_channels_may_come_first(tmp_path: Path):
    splits, images = make_splits(), protected(make_splits(), LEVELS)
    np.savez(tmp_path / "x.npz", data=images.transpose(0, 3, 1, 2), targets=splits.train.labels)
    np.testing.assert_array_equal(EXCHANGE_FORMS["npz"].read(f"{tmp_path}/x.npz", splits).images, images)


def test_half_levels_are_rounded_once(tmp_path: Path):
    splits = make_splits()
    noise = np.full((12, *SIDES), 0.6 / 255, np.float64)
    for legacy in (False, True):
        (tmp_path / "x.pt").write_bytes(torch_file(noise, legacy=legacy))
        images = EXCHANGE_FORMS["emn"].read(f"{tmp_path}/x.pt", splits).images
        np.testing.assert_array_equal(images, np.minimum(splits.train.images.astype(int) + 1, 255))
    (tmp_path / "x.pt").write_bytes(torch_file(-noise))
    images = EXCHANGE_FORMS["emn"].read(f"{tmp_path}/x.pt", splits).images
    np.testing.assert_array_equal(images, np.maximum(splits.train.images.astype(int) - 1, 0))


def test_noise_that_is_none(tmp_path: Path):
    splits, path = make_splits(), tmp_path / "x.pt"
    noise = (LEVELS / 255).astype(np.float32)

    def told(array: np.ndarray, kind: str = "emn") -> str:
        path.write_bytes(torch_file(array))
        return refusal(kind, path, splits)

    for bad in (np.nan, np.inf):
        spoilt = noise.copy()
        spoilt[7, 1, 2, 0] = bad
        assert told(spoilt) == f"{path}: the noise of image 7 is not finite; make it again"
    assert "noise of up to 8; it must be in units of [0, 1]" in told(LEVELS.astype(np.float32))
    assert "[5, 2, 3], but for its originals it would be [3, 5, 2]" in told(noise.transpose(0, 2, 3, 1).copy())
    assert "noise is [N, C, H, W]" in told(noise[0])
    assert "import it as emn-class" in told(noise[:3])
    assert "12 noises for 3 classes; one an image is imported as emn" in told(noise, "emn-class")
    path.write_bytes(pickle.dumps(LEVELS[0]))
    assert "noise is [N, C, H, W]" in refusal("rem", path, splits)
    path.write_bytes(pickle.dumps(np.zeros((13, *SIDES), np.int8)))
    assert "13 images, but there are 12 originals;" in refusal("rem", path, splits)


def test_folders_of_png_files(tmp_path: Path):
    splits, images = make_splits(), protected(make_splits(), LEVELS)
    folder = write_png(tmp_path / "set" / "data", images)
    (folder / "readme.txt").write_text("left out")
    (folder / "x.png").write_text("left out")
    read = EXCHANGE_FORMS["png"].read
    # Named itself, or the folder above, as the tools want it that train on it.
    below, above = read(str(folder), splits), read(str(folder.parent), splits)
    np.testing.assert_array_equal(above.images, images)
    assert below.sha256 == above.sha256
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}

    def told(name: str, content: bytes | None) -> str:
        for kept, bytes_ in sound.items():
            (folder / kept).write_bytes(bytes_)
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
        said = refusal("png", folder, splits)
        if name not in sound:
            (folder / name).unlink()
        return said

    assert "image 0 is missing or there twice" in told("0.png", None)
    assert "image 4 is missing or there twice" in told("4.png", None)
    assert "image 5 is missing or there twice" in told("04.png", sound["4.png"])
    assert "11 images, but there are 12" in told("11.png", None)
    jpeg = dumped(lambda file: Image.fromarray(images[2]).save(file, "JPEG"))
    assert "2.png: not a PNG file; a set that was saved with loss has lost its noise" in told("2.png", jpeg)
    huge = bytearray(sound["3.png"])
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    assert "3.png: not of 2 x 5 pixels like its original" in told("3.png", bytes(huge))
    assert "3.png: not a whole PNG" in told("3.png", sound["3.png"][:-30])
    assert "3.png: is larger than these originals allow" in told("3.png", sound["3.png"] + bytes(2**21))
    assert read(str(write_png(tmp_path / "again", images)), splits).images.shape == images.shape
    grey = write_png(tmp_path / "grey", protected(make_splits(channels=1), make_noise(12, channels=1)))
    assert "images of [5, 2, 1], but their originals are [5, 2, 3]" in refusal("png", grey, splits)
    (tmp_path / "empty").mkdir()
    assert "image 0 is missing" in refusal("png", tmp_path / "empty", splits)
    assert "no such file or directory" in refusal("png", tmp_path / "nowhere", splits)


def test_the_hash_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path: Path):
    images = protected(make_splits(), LEVELS)
    found = EXCHANGE_FORMS["png"].read(str(write_png(tmp_path / "set", images)), make_splits()).sha256
    lines = "".join(
        f"{hashlib.sha256((tmp_path / 'set' / f'{i}.png').read_bytes()).hexdigest()}  {i}.png\n" for i in range(12)
    )
    assert found == {"set": hashlib.sha256(lines.encode()).hexdigest()}


def test_arrays_that_are_no_set(tmp_path: Path):
    splits, images = make_splits(), protected(make_splits(), LEVELS)
    path, labels = tmp_path / "x.npz", splits.train.labels

    def told(**arrays) -> str:
        np.savez(path, **arrays)
        return refusal("npz", path, splits)

    assert "no array 'data'" in told(images=images, targets=labels)
    assert "5 images, but there are 12" in told(data=images[:5], targets=labels[:5])
    assert "images of [4, 2, 3], but their originals are [5, 2, 3]" in told(data=images[:, 1:], targets=labels)
    assert "must be uint8, or float in [0, 1]" in told(data=images.astype(np.int16), targets=labels)
    assert "NaN or infinity" in told(data=np.where(images == 7, np.nan, images / 255), targets=labels)
    assert "must lie in [0, 1]" in told(data=images.astype(np.float32), targets=labels)
    assert "Python objects, which are never loaded" in told(data=np.array([{}]), targets=labels)
    assert "not of plain numbers" in told(data=np.array(["text"]), targets=labels)
    assert "5 images, but there are 12" in told(data=images[0], targets=labels)
    assert "images must be" in told(data=np.float32(3), targets=labels)
    path.write_bytes(b"PK\x03\x04 and so on")
    assert "not a whole NumPy file" in refusal("npz", path, splits)
    np.save(tmp_path / "x.npy", images)
    assert "not a whole NumPy file" in refusal("npz", tmp_path / "x.npy", splits)
    assert "a folder; give a file" in refusal("npz", tmp_path, splits)
    assert "no such file" in refusal("npy", tmp_path / "none.npy", splits)
    assert "labels are a .npy, .txt or .csv file" in refusal("npy", f"{tmp_path}/x.npy,{tmp_path}/none", splits)
    # Without labels a file of images will do.
    assert EXCHANGE_FORMS["npy"].read(f"{tmp_path}/x.npy", splits).labels is None


def test_what_an_array_declares_is_looked_at_before_it_is_read(tmp_path: Path):
    splits = make_splits()
    declared = dumped(lambda file: np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (2**40,)}
    ))  # fmt: skip
    (tmp_path / "x.npy").write_bytes(declared)
    assert "is larger than these originals allow" in refusal("npy", tmp_path / "x.npy", splits)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", dumped(lambda file: np.save(file, np.zeros(10**7, np.uint8))))
    assert (tmp_path / "x.npz").stat().st_size < 2 * 10**4
    assert "array 'data': [10000000] is larger than these originals allow" in refusal("npz", tmp_path / "x.npz", splits)
    negative = declared.replace(b"(1099511627776,)", b"(-1, 1, 1, 1, 1)")
    (tmp_path / "x.npy").write_bytes(negative)
    assert "not a whole NumPy file" in refusal("npy", tmp_path / "x.npy", splits)
    np.savez_compressed(tmp_path / "y.npz", data=protected(splits, LEVELS), targets=splits.train.labels)
    np.testing.assert_array_equal(
        EXCHANGE_FORMS["npz"].read(f"{tmp_path}/y.npz", splits).images, protected(splits, LEVELS)
    )


def test_a_pickle_in_a_numpy_file_is_never_loaded(tmp_path: Path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    evil = dumped(lambda file: np.lib.format.write_array(file, np.array([Payload()], object), allow_pickle=True))
    (tmp_path / "x.npy").write_bytes(evil)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("data.npy", evil)
    for kind, name in (("npy", "x.npy"), ("npz", "x.npz")):
        assert "Python objects" in refusal(kind, tmp_path / name, make_splits())
    with pytest.raises(UserError, match="Python objects"):
        read_labels(tmp_path / "x.npy", make_splits())
    assert not (tmp_path / "ran").exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()  # so it was alive


def test_labels_of_every_kind(tmp_path: Path):
    splits = make_splits()
    labels = splits.train.labels
    np.save(tmp_path / "a.npy", labels.astype(np.uint8))
    np.save(tmp_path / "b.npy", np.eye(3, dtype=np.float32)[labels])
    (tmp_path / "c.txt").write_text("".join(f"{label}\n" for label in labels))
    (tmp_path / "d.csv").write_text("label\n" + "".join(f"{label}\n" for label in labels))
    shuffled = np.random.default_rng(0).permutation(12)
    (tmp_path / "e.csv").write_text("index,label,x\r\n" + "".join(f"{i},{labels[i]},kühe\r\n" for i in shuffled))
    for path in sorted(tmp_path.iterdir()):
        check_labels(read_labels(path, splits), splits, path.name)
    chosen = make_splits(chosen=(0, 4, 8))
    check_labels(read_labels(tmp_path / "e.csv", chosen), chosen, "e.csv")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", b"[]", "labels are a .npy, .txt or .csv file"),
        ("x.txt", b"0\n1\ncat\n", "not a whole number a line"),
        ("x.txt", b"0\n" * 11 + b"9" * 5000, "not a whole number a line"),
        ("x.txt", b"0\n" * 11 + b"9" * 50, "not a whole number a line"),
        ("x.txt", b"\xff\xfe", "not a whole number a line"),
        ("x.txt", b"", "made of 0 images, but there are 12 originals"),
        ("x.txt", b"0\n1\n", "made of 2 images, but there are 12 originals"),
        ("x.txt", b"0\n" * 12, "8 labels are not those of the originals, that of image 1 the first"),
        ("x.csv", b"a,b\n1,2\n", "not a table with a column 'label'"),
        ("x.csv", b"label\ncat\n", "not a table with a column 'label'"),
        ("x.csv", b"index,label\n0,0\n0,1\n", "not a table with a column 'label'"),
        ("x.csv", b"index,label\n0,0\n2,1\n", "not a table with a column 'label'"),
        ("x.csv", b"index,label\n0\n", "not a table with a column 'label'"),
        ("x.csv", b'label\n"0', "not a table with a column 'label'"),
        ("x.npy", b"hello", "not a whole NumPy file"),
        ("x.npy", dumped(lambda file: np.save(file, np.zeros(12))), "labels are integers [N] or one-hot"),
        ("x.npy", dumped(lambda file: np.save(file, np.zeros((12, 3)))), "labels are integers [N] or one-hot"),
        ("x.npy", dumped(lambda file: np.save(file, np.zeros((12, 4)))), "is larger than these originals allow"),
        ("x.txt", b"0\n" * 2**20, "is larger than these originals allow"),
    ],
)
def test_labels_that_are_none(name, content, says, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        check_labels(read_labels(tmp_path / name, make_splits()), make_splits(), str(tmp_path / name))
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_spoilt_sets_are_refused():
    originals = make_splits(90).train
    images = protected(make_splits(90), make_noise(90))
    check_protected(images, originals, "set")
    black = np.where((originals.labels == 1)[:, None, None, None], 0, images).astype(np.uint8)
    with pytest.raises(UserError, match="set: 30 images are of one value .* image 1 of class 'dog', all 0"):
        check_protected(black, originals, "set")
    constant = originals.images.copy()
    constant[4] = 100
    check_protected(np.where(np.arange(90)[:, None, None, None] == 4, 100, images).astype(np.uint8),
                    Dataset(constant, originals.labels, NAMES), "set")  # fmt: skip
    with pytest.raises(UserError, match="set: these are the originals"):
        check_protected(originals.images, originals, "set")
    for other in (np.roll(images, 3, axis=0), images[np.random.default_rng(0).permutation(90)]):
        with pytest.raises(UserError, match="set: these images are hardly nearer to their originals than to others"):
            check_protected(other, originals, "set")


@pytest.mark.parametrize("largest", [8, 60, 120])
def test_large_noise_is_not_taken_for_another_order(largest):
    splits = make_splits(90)
    levels = make_noise(3, largest=largest)[splits.train.labels].astype(int)
    check_protected(protected(splits, levels), splits.train, "set")


def test_noise_one_a_class_is_found_behind_the_clipping(tmp_path: Path):
    splits = make_splits(30)
    levels = make_noise(3, largest=100).astype(int)
    exported = Exported(protected(splits, levels[splits.train.labels]), splits.train.labels, NAMES, splits.train.images)
    form = EXCHANGE_FORMS["emn-class"]
    form.write(tmp_path / "x.pt", exported)
    np.testing.assert_array_equal(form.read(f"{tmp_path}/x.pt", splits).images, exported.images)
    exported.images[4, 3, 1, 2] ^= 1
    with pytest.raises(UserError, match="not the same in all images of class 1"):
        form.write(tmp_path / "y.pt", exported)


def test_int8_holds_no_more_than_it_holds(tmp_path: Path):
    splits, form = make_splits(), EXCHANGE_FORMS["rem"]
    for levels, fits in ((-128, True), (127, True), (-129, False), (128, False)):
        originals = np.full_like(splits.train.images, 128 if levels < 0 else 0)
        images = originals.copy()
        images[5, 2, 1] = np.clip(originals[5, 2, 1].astype(int) + levels, 0, 255)
        if levels == -129:
            originals[5], images[5, 2, 1] = 129, 0
        exported = Exported(images, splits.train.labels, NAMES, originals)
        if fits:
            form.write(tmp_path / f"{levels}.pkl", exported)
            assert pickle.loads((tmp_path / f"{levels}.pkl").read_bytes())[5, 0, 2, 1] == levels
        else:
            with pytest.raises(UserError, match="1 images .* more than int8 holds .*, image 5 the first"):
                form.write(tmp_path / f"{levels}.pkl", exported)


def test_what_the_tools_find_in_what_is_written(tmp_path: Path):
    splits = make_splits()
    images = protected(splits, LEVELS)
    exported = {
        kind: Exported(images, splits.train.labels, NAMES, splits.train.images if form.noise else None)
        for kind, form in EXCHANGE_FORMS.items()
    }
    for kind in ("png", "npz", "npy", "rem"):
        EXCHANGE_FORMS[kind].write(tmp_path / kind, exported[kind])
    # Tools list `data`, and turn the names of all that is in it into numbers.
    assert sorted(int(path.name.split(".")[0]) for path in (tmp_path / "png" / "data").iterdir()) == list(range(12))
    check_labels(read_labels(tmp_path / "png" / "manifest.csv", splits), splits, "manifest.csv")
    with np.load(tmp_path / "npz") as archive:
        np.testing.assert_array_equal(archive["data"], images)
        assert (archive["data"].dtype, archive["targets"].dtype) == (np.uint8, np.int64)
    found, one_hot = np.load(tmp_path / "npy" / "images.npy"), np.load(tmp_path / "npy" / "labels.npy")
    assert found.dtype == np.float32 and 0 <= found.min() <= found.max() <= 1
    np.testing.assert_array_equal(one_hot, np.eye(3)[splits.train.labels])
    loaded = load(Source(str(tmp_path / "npy"))).train  # which is a source of ours as well
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, splits.train.labels)
    change = (images.astype(int) - splits.train.images).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(pickle.loads((tmp_path / "rem").read_bytes()), change)


def test_names_are_looked_up():
    assert EXCHANGE_FORMS.find("rem", "kind") is EXCHANGE_FORMS["rem"]
    with pytest.raises(UserError, match="`kind`: unknown 'emn-clas': did you mean 'emn-class'"):
        EXCHANGE_FORMS.find("emn-clas", "kind")


def test_a_new_form_is_one_pair_of_functions_and_one_line(monkeypatch, tmp_path: Path):
    def read(place: str, splits: Splits) -> Imported:
        return Imported(np.array(json.loads(Path(place).read_text()), np.uint8), None, {})

    def write(path: Path, exported: Exported) -> None:
        path.write_text(json.dumps(exported.images.tolist()))

    monkeypatch.setitem(EXCHANGE_FORMS, "json", Form(read, write, "numbers in text"))
    splits = make_splits()
    form = EXCHANGE_FORMS.find("json", "kind")
    form.write(tmp_path / "x", Exported(splits.train.images, splits.train.labels, NAMES, None))
    np.testing.assert_array_equal(form.read(f"{tmp_path}/x", splits).images, splits.train.images)
