"""Sets as other tools save them: .npz under other names, idx, CIFAR's pickles, Hugging Face's tables, WebDataset."""

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from folder_examples import pixels
from PIL import Image

from ugejax.data import Source, load
from ugejax.data.kinds import format_of
from ugejax.errors import UserError

LABELS = np.arange(12) % 3


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(Source(str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def splits_of(path: Path) -> list[tuple[str, str, int]]:
    return [(split.name, split.use, split.images) for split in load(Source(str(path))).account.splits]


def png(image: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels")])
def test_npz_of_other_names(tmp_path, images, labels):
    np.savez(tmp_path / "a.npz", **{images: pixels(12, 4, 4, 3), labels: LABELS, "mean": np.zeros(3)})
    splits = load(Source(str(tmp_path / "a.npz")))
    np.testing.assert_array_equal(splits.train.images, pixels(12, 4, 4, 3))
    np.testing.assert_array_equal(splits.train.labels, LABELS)
    assert splits.account.warnings == ("arrays that are not read: mean",)


def test_npz_with_train_and_test_images(tmp_path):
    np.savez(
        tmp_path / "a.npz", x_train=pixels(12, 4, 4), y_train=LABELS, x_test=pixels(3, 4, 4, seed=1), y_test=[2, 1, 0]
    )
    splits = load(Source(str(tmp_path / "a.npz")))
    assert splits.test is not None
    assert splits.test.labels.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(splits.test.images[..., 0], pixels(3, 4, 4, seed=1))


def test_npz_of_medmnist(tmp_path):
    sides = {"train": 12, "val": 3, "test": 6}
    arrays = {f"{side}_images": pixels(n, 4, 4, seed=n) for side, n in sides.items()}
    arrays |= {f"{side}_labels": (LABELS[:n, None]).astype(np.uint8) for side, n in sides.items()}
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    splits = load(Source(str(tmp_path / "pathmnist.npz")))
    assert splits.test is not None and len(splits.test.images) == 6
    np.testing.assert_array_equal(splits.train.labels, LABELS)
    assert splits_of(tmp_path / "pathmnist.npz") == [
        ("train_images", "train", 12), ("test_images", "test", 6), ("val_images", "not used", 3)
    ]  # fmt: skip


def test_npz_whose_arrays_are_not_plain_is_told_with_what_is_in_it(tmp_path):
    np.savez(tmp_path / "a.npz", foo=pixels(12, 4, 4, 3), bar=LABELS.astype(np.int64), odd=np.array([{}], object))
    told = refusal(tmp_path / "a.npz")
    assert "no array 'data'" in told
    assert "it holds foo uint8 [12, 4, 4, 3], bar int64 [12], odd (Python objects or damaged)" in told
    np.savez(tmp_path / "b.npz", images=pixels(12, 4, 4), labels=LABELS, x=pixels(12, 4, 4), y=LABELS)
    assert "more than one pair of images and labels" in refusal(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "labels",
    [LABELS[:, None], LABELS.astype(np.float32), LABELS[:, None].astype(float), LABELS.astype(np.uint8)],
    ids=["column", "floats", "column of floats", "bytes"],
)
def test_labels_of_other_types_that_say_the_same(tmp_path, labels):
    np.savez(tmp_path / "a.npz", data=pixels(12, 4, 4), targets=labels)
    np.testing.assert_array_equal(load(Source(str(tmp_path / "a.npz"))).train.labels, LABELS)


def test_labels_that_are_true_or_false(tmp_path):
    np.savez(tmp_path / "a.npz", data=pixels(4, 4, 4), targets=[True, False, True, True])
    assert load(Source(str(tmp_path / "a.npz"))).train.labels.tolist() == [1, 0, 1, 1]


def test_labels_that_are_names(tmp_path):
    for names in (["dog", "cat", "dog", "ant"], np.array([b"dog", b"cat", b"dog", b"ant"])):
        np.savez(tmp_path / "a.npz", data=pixels(4, 4, 4), targets=names)
        train = load(Source(str(tmp_path / "a.npz"))).train
        assert (train.class_names, train.labels.tolist()) == (("ant", "cat", "dog"), [2, 1, 2, 0])
    np.savez(tmp_path / "a.npz", data=pixels(3, 4, 4), targets=["b", "a", "b"], class_names=["b", "a"])
    assert load(Source(str(tmp_path / "a.npz"))).train.labels.tolist() == [0, 1, 0]
    np.savez(tmp_path / "a.npz", data=pixels(3, 4, 4), targets=["b", "a", "c"], class_names=["b", "a"])
    assert "the label 'c' is none of the class names" in refusal(tmp_path / "a.npz")


def test_images_that_can_be_read_in_two_ways_are_told_of(tmp_path):
    np.savez(tmp_path / "a.npz", data=pixels(4, 3, 8, 3), targets=[0, 1, 0, 1])
    splits = load(Source(str(tmp_path / "a.npz")))
    assert splits.train.images.shape == (4, 3, 8, 3)
    (line,) = splits.account.warnings
    assert line.startswith("images [4, 3, 8, 3] could have their channels first or last; they are read as 3 x 8 pixels")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_as_it_is_published(tmp_path, packed):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    files = {
        "train-images-idx3-ubyte": pixels(12, 5, 4), "train-labels-idx1-ubyte": LABELS.astype(np.uint8),
        "t10k-images-idx3-ubyte": pixels(3, 5, 4, seed=1), "t10k-labels-idx1-ubyte": np.array([2, 0, 1], np.uint8),
    }  # fmt: skip
    for name, array in files.items():
        content = idx(array)
        (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    for source in (tmp_path, folder):
        splits = load(Source(str(source)))
        assert splits.test is not None
        np.testing.assert_array_equal(splits.train.images[..., 0], pixels(12, 5, 4))
        assert splits.train.images.shape == (12, 5, 4, 1)
        assert splits.test.labels.tolist() == [2, 0, 1]
    damaged = next(folder.glob("train-images*"))
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert "not a whole idx file" in refusal(folder)
    damaged.write_bytes(idx(pixels(12, 5, 4)).replace(b"\0\0\x08", b"\0\0\x0d", 1))  # of floats
    assert "not a whole idx file of bytes" in refusal(folder)
    damaged.unlink()
    assert "no train images in the form idx" in refusal(folder)
    for name in ("letters-train-images-idx3-ubyte", "digits-train-images-idx3-ubyte"):
        (folder / name).write_bytes(idx(pixels(12, 5, 4)))
    assert "holds several sets (digits-train-images-idx3-ubyte" in refusal(folder)


class Python2:
    """Pickles as Python 2 writes them, protocol 2: its text is bytes."""

    @staticmethod
    def text(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text

    @classmethod
    def array(cls, array: np.ndarray) -> bytes:
        shape = b"M" + struct.pack("<H", array.shape[0]) + b"M" + struct.pack("<H", array.shape[1])
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + cls.text(b"b") + b"\x87R"
            b"(K\x01" + shape + b"\x86cnumpy\ndtype\n" + cls.text(b"u1") + b"K\x00K\x01\x87R(K\x03" + cls.text(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + cls.text(array.tobytes()) + b"tb"
        )  # fmt: skip

    @classmethod
    def table(cls, **fields: bytes) -> bytes:
        return b"\x80\x02}(" + b"".join(cls.text(name.encode()) + value for name, value in fields.items()) + b"u."

    @classmethod
    def numbers(cls, numbers: np.ndarray) -> bytes:
        return b"](" + b"".join(b"K" + bytes([number]) for number in numbers.tolist()) + b"e"

    @classmethod
    def texts(cls, texts: list[bytes]) -> bytes:
        return b"](" + b"".join(map(cls.text, texts)) + b"e"


def write_cifar(folder: Path) -> np.ndarray:
    """Twelve images in two batches and three of the test; returns all as [15, 3072]."""
    rows = pixels(15, 3072)
    for name, part in (("data_batch_1", slice(0, 6)), ("data_batch_2", slice(6, 12)), ("test_batch", slice(12, 15))):
        labels = np.arange(15)[part] % 3
        names = [f"image_{i}.png".encode() for i in range(len(labels))]
        (folder / name).write_bytes(
            Python2.table(
                batch_label=Python2.text(b"a batch"),
                labels=Python2.numbers(labels),
                data=Python2.array(rows[part]),
                filenames=Python2.texts(names),
            )  # fmt: skip
        )
    (folder / "batches.meta").write_bytes(Python2.table(label_names=Python2.texts([b"airplane", b"bird", b"cat"])))
    return rows


def test_cifar_10_as_it_is_published(tmp_path):
    rows = write_cifar(tmp_path)
    # It is what Python 3 reads of such a file.
    with open(tmp_path / "data_batch_1", "rb") as file:
        np.testing.assert_array_equal(pickle.load(file, encoding="latin1")["data"], rows[:6])
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert splits.train.class_names == ("airplane", "bird", "cat")
    np.testing.assert_array_equal(splits.train.images, rows[:12].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert splits.train.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(splits.test.images[1, 4, 5], rows[13].reshape(3, 32, 32)[:, 4, 5])
    assert splits_of(tmp_path) == [("data_batch_1, data_batch_2", "train", 12), ("test_batch", "test", 3)]


def test_cifar_100_as_python_3_writes_it(tmp_path):
    for name, n in (("train", 12), ("test", 3)):
        table = {"data": pixels(n, 3072), "fine_labels": (LABELS[:n]).tolist(), "coarse_labels": [0] * n}
        (tmp_path / name).write_bytes(pickle.dumps(table, protocol=2))
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b", "c"]}, protocol=2))
    splits = load(Source(str(tmp_path)))
    np.testing.assert_array_equal(splits.train.images[3, 0, 1], pixels(12, 3072)[3].reshape(3, 32, 32)[:, 0, 1])
    assert splits.train.class_names == ("a", "b", "c")


def test_a_pickle_that_would_run_something_is_decoded_and_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    write_cifar(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({"data": Payload()}, protocol=2))
    assert "nothing of it was run" in refusal(tmp_path)
    assert not (tmp_path / "executed").exists()
    (tmp_path / "data_batch_2").write_bytes(b"\x80\x02}(U")
    assert "data_batch_2: is no whole pickle" in refusal(tmp_path)


OTHER_ENCODING = b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0utf-8\x86R."


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("batches.meta", pickle.dumps({"label_names": "airplane"}), "no names of classes in it"),
        ("data_batch_2", pickle.dumps([1]), "holds no table of names"),
        ("data_batch_2", pickle.dumps({"labels": [0]}), "holds no images [N, 3072] with a list of labels"),
        ("data_batch_2", OTHER_ENCODING, "encodes what is no text of bytes"),
        (
            "data_batch_2",
            Python2.table(data=Python2.array(pixels(1, 3072)), labels=Python2.texts([b"bird"])),
            "its labels are no whole numbers",
        ),
    ],
)  # fmt: skip
def test_what_is_no_batch_of_cifar_is_told(tmp_path, file, content, says):
    write_cifar(tmp_path)
    (tmp_path / file).write_bytes(content)
    assert f"{tmp_path / file}: {says}" in refusal(tmp_path)


def test_cifar_without_train_images_is_told(tmp_path):
    write_cifar(tmp_path)
    for batch in tmp_path.glob("data_batch_*"):
        batch.unlink()
    assert "no train images of CIFAR-10 beside batches.meta" in refusal(tmp_path)


def table(n: int, seed: int, *, names: bool = True) -> pa.Table:
    """A table as `datasets` writes it."""
    images = [{"bytes": png(pixels(4, 4, 3, seed=100 * seed + i)), "path": None} for i in range(n)]
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    )  # fmt: skip
    if names:
        label = {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, "label": label}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return pa.Table.from_pydict({"image": images, "label": LABELS[:n].tolist()}, schema)


def test_parquet_as_it_lies_on_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    for name, n, seed in (
        ("train-00000-of-00002", 6, 1), ("train-00001-of-00002", 3, 2), ("validation-00000-of-00001", 3, 3),
        ("test-00000-of-00001", 3, 4),
    ):  # fmt: skip
        pyarrow.parquet.write_table(table(n, seed), tmp_path / "data" / f"{name}.parquet")
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert splits.train.class_names == ("ant", "bee", "cow")
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(splits.train.images[7], pixels(4, 4, 3, seed=201))
    np.testing.assert_array_equal(splits.test.images[2], pixels(4, 4, 3, seed=402))
    assert sorted(splits_of(tmp_path)) == [("test", "test", 3), ("train", "train", 9), ("validation", "not used", 3)]
    one = tmp_path / "data" / "train-00000-of-00002.parquet"
    assert len(load(Source(str(one))).train.images) == 6
    one.write_bytes(one.read_bytes()[:100])
    assert "not a whole table" in refusal(one)


def test_a_folder_that_datasets_has_saved(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for side, n, seed in (("train", 6, 1), ("test", 3, 2)):
        (tmp_path / side).mkdir()
        file = str(tmp_path / side / "data-00000-of-00001.arrow")
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table(n, seed).schema) as writer:
            writer.write_table(table(n, seed), max_chunksize=2)
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None and len(splits.test.images) == 3
    np.testing.assert_array_equal(splits.train.images[5], pixels(4, 4, 3, seed=105))


def test_tables_that_cannot_be_made_sense_of(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["a"], "label": [0]}), path)
    assert "needs a column of images and one of labels, but has text, label" in refusal(path)
    pyarrow.parquet.write_table(table(6, 1, names=False), path)
    assert load(Source(str(path))).train.class_names == ("0", "1", "2")
    (tmp_path / "test-0.parquet").write_bytes(path.read_bytes())
    path.unlink()
    assert "tables of test, but none of train" in refusal(tmp_path)
    of_classes = table(3, 1)
    pyarrow.parquet.write_table(of_classes, tmp_path / "train-0.parquet")
    other = of_classes.replace_schema_metadata(
        {"huggingface": of_classes.schema.metadata[b"huggingface"].replace(b"cow", b"dog")}
    )
    pyarrow.parquet.write_table(other, tmp_path / "test-0.parquet")
    assert "test: has other classes than the train images" in refusal(tmp_path)
    (tmp_path / "test-0.parquet").unlink()
    pyarrow.parquet.write_table(of_classes.rename_columns(["image", "kind"]), tmp_path / "train-1.parquet")
    assert "its tables differ in their columns" in refusal(tmp_path)
    (tmp_path / "train-1.parquet").unlink()
    floats = of_classes.set_column(1, "label", pa.array([0.0, 1.5, 2.0]))
    pyarrow.parquet.write_table(floats, tmp_path / "train-0.parquet")
    assert "the column 'label' holds no whole numbers" in refusal(tmp_path)
    elsewhere = pa.array([{"bytes": None, "path": "a.png"}] * 3, of_classes.schema.field("image").type)
    pyarrow.parquet.write_table(of_classes.set_column(0, "image", elsewhere), tmp_path / "train-0.parquet")
    assert "image 0: its bytes are not in the table" in refusal(tmp_path)


def test_an_arrow_file_with_a_directory_at_its_end(tmp_path):
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table(3, 1).schema) as writer:
        writer.write_table(table(3, 1))
    np.testing.assert_array_equal(load(Source(str(tmp_path / "a.arrow"))).train.images[2], pixels(4, 4, 3, seed=102))


def write_tar(path: Path, n: int, *, labels: bool = True, names: tuple[str, ...] = ("0", "1", "2")) -> None:
    with tarfile.open(path, "w") as archive:
        for i in range(n):
            members = [(f"{i:04d}.png", png(pixels(4, 4, 3, seed=i)))]
            members += [(f"{i:04d}.cls", names[i % 3].encode())] if labels else []
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def test_archives_of_webdataset(tmp_path):
    write_tar(tmp_path / "set-train-000.tar", 6)
    write_tar(tmp_path / "set-val-000.tar", 3)
    splits = load(Source(str(tmp_path)))
    assert splits.test is not None
    assert (splits.train.class_names, splits.test.labels.tolist()) == (("0", "1", "2"), [0, 1, 2])
    np.testing.assert_array_equal(splits.train.images[4], pixels(4, 4, 3, seed=4))
    assert len(load(Source(str(tmp_path / "set-train-000.tar"))).train.images) == 6
    write_tar(tmp_path / "b.tar", 6, names=("cat", "dog", "ant"))
    assert load(Source(str(tmp_path / "b.tar"))).train.class_names == ("ant", "cat", "dog")
    write_tar(tmp_path / "c.tar", 3, labels=False)
    assert "an archive; unpack it and give the folder" in refusal(tmp_path / "c.tar")
    with tarfile.open(tmp_path / "b.tar", "a") as archive:
        archive.add(tmp_path, "folder", recursive=False)  # is passed over
        archive.add(tmp_path / "c.tar", "more.png")
    assert "more.png: has no label beside it (.cls)" in refusal(tmp_path / "b.tar")
    (tmp_path / "val").mkdir()
    write_tar(tmp_path / "val" / "val-0.tar", 3)
    assert len(load(Source(str(tmp_path / "val"))).train.images) == 3  # of no others they are the train images
    (tmp_path / "c.tar").write_bytes(b"no archive" * 100)
    assert "not a whole .tar archive" in refusal(tmp_path / "c.tar")


def test_files_of_other_kinds_have_their_names():
    kinds = {bytes(128) + b"DICM": "DICOM", b'<?xml version="1.0"?><svg': "SVG", b"\0" * 132: None}
    assert {head: format_of(head) for head in kinds} == kinds


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.zip", "an archive; unpack it and give the folder"),
        ("a.h5", "an HDF5 file, which is not read; write its images into a folder for each class"),
        ("a.pt", "a PyTorch file, which is not read"),
        ("a.mat", "a MATLAB file, which is not read"),
    ],
)
def test_what_is_not_read_is_told_with_how_to_convert_it(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"content")
    assert says in refusal(tmp_path / name)
