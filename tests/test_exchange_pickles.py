"""Pickles and PyTorch's files: what arrays are made of is read, and nothing that they hold is ever run."""

import contextlib
import io
import itertools
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exchange_examples import (
    REAL_ARCHIVE,
    REAL_LEGACY,
    call,
    live_pickles,
    make_noise,
    put,
    tensor_pickle,
    torch_archive,
    torch_file,
    torch_legacy,
    watched,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ugejax.app.exchange.numpy_pickle import read_int8, write_int8
from ugejax.app.exchange.torch_file import read_tensor, write_tensor
from ugejax.errors import UserError

NOISE = (make_noise(4) / np.float32(255)).astype(np.float32)


class PythonsOwn(pickle.Unpickler):
    """Python's unpickler, which takes persistent ids as they are."""

    def persistent_load(self, identity):
        return identity


def refusal(read: Callable, content: bytes, path: Path, most: int = 10**6) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path, most=most)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said and len(said) < 400
    return said


CARRIERS: dict[str, tuple[Callable, Callable[[bytes], bytes]]] = {
    "pickle": (read_int8, lambda evil: evil),
    "archive": (read_tensor, lambda evil: torch_archive(evil, b"")),
    "legacy, first": (read_tensor, lambda evil: evil),
    "legacy, tensor": (read_tensor, lambda evil: torch_legacy(evil, b"", n_values=0)),
    "legacy, keys": (
        read_tensor,
        lambda evil: torch_legacy(tensor_pickle(NOISE, legacy=True) + evil, b"", n_values=0),
    ),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", live_pickles(Path("sentinel")))
def test_nothing_in_a_file_is_run(name, carrier, tmp_path: Path):
    sentinel, file = tmp_path / "ran", tmp_path / "noise"
    evil = live_pickles(sentinel)[name]
    # Python's own unpickler shows that it is alive, and that what it does is seen.
    with watched() as seen, contextlib.suppress(Exception):
        PythonsOwn(io.BytesIO(evil)).load()
    if "tensor" not in name:  # which there is nobody to rebuild without PyTorch: the call itself is in the others
        assert sentinel.exists() and "pickle.find_class" in seen
        sentinel.unlink()
    read, carry = CARRIERS[carrier]
    with contextlib.suppress(UserError):  # so that what the readers themselves import late is there
        file.write_bytes(torch_file(NOISE))
        read(file, most=NOISE.size)
    file.write_bytes(carry(evil))
    with watched() as seen, pytest.raises(UserError) as caught:
        read(file, most=10**6)
    assert seen == []
    assert not sentinel.exists()
    said = str(caught.value)
    assert said.startswith(f"{file}: ") and "\n" not in said
    assert "nothing of it was run" in said


def test_what_is_refused_is_named_and_cannot_break_the_line(tmp_path: Path):
    said = refusal(read_int8, call("os.system") + b".", tmp_path / "x.pkl")
    assert said.endswith("asks for 'os.system', which this form has no need of; nothing of it was run")
    hostile = put("os\n\x1b[31m") + put("system" * 1000) + b"\x93."
    assert r"'os\n\x1b[31m.systemsystem" in refusal(read_int8, b"\x80\x04" + hostile, tmp_path / "x.pkl")


DTYPE = call("numpy.dtype", put("i1"), b"\x89\x88")
CHANGES, CALLS = "changes what is no array; nothing of it", "calls what is no function of arrays; nothing of it was run"
NEEDS, DAMAGED = "which this form has no need of; nothing of it was run", "is no whole pickle (truncated or damaged?)"
MISUSES = {
    "state for a name": (b"cnumpy\nndarray\n}" + put("__call__") + b"K\x01sb", CHANGES),
    "slots of a name": (b"cnumpy\ndtype\nN}" + put("__defaults__") + b"Ns\x86b", CHANGES),
    "state for a number": (b"K\x05}b", CHANGES),
    "a call of a constant": (b"cnumpy\nndarray\n)R", CALLS),
    "a call of a result": (DTYPE + b")R", CALLS),
    "a call of a text": (put("os.system") + b")R", CALLS),
    "arguments that are no tuple": (b"cnumpy\ndtype\n" + DTYPE + b"R", CALLS),
    "a persistent id": (b"(K\x01tQ", NEEDS),
    "the extension registry": (b"\x82\x01", NEEDS),
    "a text for a type": (
        call("numpy._core.numeric._frombuffer", b"C\x04abcd", put("f4"), b"K\x04\x85", put("C")),
        DAMAGED,
    ),
    "an empty stack": (b"R", DAMAGED),
    "two values": (b"K\x01K\x01", DAMAGED),
    "no mark": (b"t", DAMAGED),
    "no such memo": (b"h\x05", DAMAGED),
    "an item for a number": (b"K\x01K\x01a", DAMAGED),
    "half an item": (b"}(K\x01u", DAMAGED),
    "an item for a tuple": (b")K\x01K\x01s", DAMAGED),
}


@pytest.mark.parametrize("name", MISUSES)
def test_names_and_results_cannot_be_misused(name, tmp_path: Path):
    body, says = MISUSES[name]
    assert says in refusal(read_int8, b"\x80\x04" + body + b".", tmp_path / "x.pkl")
    refusal(read_tensor, torch_archive(b"\x80\x04" + body + b".", b""), tmp_path / "x.pt")
    # The table is as before.
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(make_noise(4)))
    np.testing.assert_array_equal(read_int8(tmp_path / "x.pkl", most=10**4), make_noise(4))


def long_bytes(n: int) -> bytes:
    """The instruction that puts n bytes on the stack."""
    return b"B" + struct.pack("<I", n) + bytes(n)


def test_bombs_take_neither_memory_nor_time(tmp_path: Path):
    huge, doubled = b"\x8a\x09" + (2**64).to_bytes(9, "little"), b"K\x01" + b"q\x00h\x00\x86" * 300
    shape = pickle.dumps((2**40,), 3)[2:-1]
    frombuffer = "numpy._core.numeric._frombuffer"
    megabytes = 4 * 10**6
    bombs = {
        "instructions": b"N" * 10**6,
        "a memo of two milliards": b"K\x01r\xff\xff\xff\x7f",
        "a text of exabytes": b"\x8d" + (2**60).to_bytes(8, "little") + b"x",
        "bytes of exabytes": b"\x8e" + (2**60).to_bytes(8, "little") + b"x",
        "a tuple of 2 ** 300": doubled,
        "a key of 2 ** 300": b"}" + doubled + b"K\x01s",
        "a list in itself": b"]q\x00h\x00a",
        "an array of 2 ** 64": call(frombuffer, b"C\x01x", DTYPE, huge + b"\x85", put("C")),
        "an array of 2 ** 40": call(frombuffer, b"C\x01x", DTYPE, shape, put("C")),
        "an array of a shape of bytes": call(frombuffer, b"C\x01x", DTYPE, long_bytes(megabytes), put("C")),
        "a storage of bytes": long_bytes(megabytes) + b"Q",
        "a view of bytes": tensor_pickle(np.zeros(1, np.float32), legacy=False, shape="here", strides="here").replace(
            pickle.dumps("here", 2)[2:-1], long_bytes(megabytes // 2)
        )[2:-1],
    }
    tracemalloc.start()
    for name, bomb in bombs.items():
        evil = b"\x80\x04" + bomb + b"."
        for read, content in ((read_int8, evil), (read_tensor, torch_archive(evil, b""))):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            said = refusal(read, content, tmp_path / "x", most=megabytes)
            assert ("more instructions than any array needs" in said) == (name == "instructions")
            # Its bytes may be there twice, in the buffer and on the stack.
            assert tracemalloc.get_traced_memory()[1] - before < 2.5 * megabytes, name
    tracemalloc.stop()


def test_what_a_file_declares_is_looked_at_before_it_is_read(tmp_path: Path):
    one = np.zeros(1, np.float32)
    for shape, strides in {(2**40,): (0,), (2**70, 1): (0, 0), (10**6 + 1, 1, 1, 1): (0, 0, 0, 0)}.items():
        pickled = tensor_pickle(one, legacy=False, shape=shape, strides=strides)
        assert "is larger than these originals allow" in refusal(
            read_tensor, torch_archive(pickled, one.tobytes()), tmp_path / "x.pt"
        )
    zeros = torch_archive(tensor_pickle(NOISE, legacy=False), bytes(10**6), compress=zipfile.ZIP_DEFLATED)
    assert "is compressed" in refusal(read_tensor, zeros, tmp_path / "x.pt")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    for read in (read_int8, read_tensor):
        with pytest.raises(UserError, match="is larger than these originals allow"):
            read(tmp_path / "sparse", most=10**6)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickled_array_is_read_whatever_its_layout(protocol, tmp_path: Path):
    levels = make_noise(6, largest=127)
    for array in (levels, np.asfortranarray(levels), levels[:, :, ::2], levels[:0]):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(array, protocol))
        np.testing.assert_array_equal(read_int8(tmp_path / "x.pkl", most=levels.size), array)
    numpy1 = pickle.dumps(levels, protocol)
    for part in (b"multiarray", b"numeric"):  # protocols 4 and 5 say how long a name is
        name, old = b"numpy._core." + part, b"numpy.core." + part
        numpy1 = numpy1.replace(bytes([len(name)]) + name, bytes([len(old)]) + old).replace(name, old)
    assert b"_core" not in numpy1
    (tmp_path / "x.pkl").write_bytes(numpy1)
    np.testing.assert_array_equal(read_int8(tmp_path / "x.pkl", most=levels.size), levels)


def test_pickles_of_other_things_are_refused(tmp_path: Path):
    path = tmp_path / "x.pkl"
    for array in (np.zeros(3, np.float32), np.zeros(3, np.uint8), np.array([{}], object), np.zeros(3, "V3")):
        assert "another type than int8" in refusal(read_int8, pickle.dumps(array), path)
    for value in ([np.zeros(3, np.int8)], {"noise": np.zeros(3, np.int8)}, None, b"bytes", np.int8):
        refusal(read_int8, pickle.dumps(value), path)
    assert "no array of NumPy" in refusal(read_int8, call("numpy.core.multiarray._reconstruct") + b".", path)
    assert "truncated or damaged" in refusal(read_int8, b"", path)
    assert "truncated or damaged" in refusal(read_int8, b"hello", path)
    assert "a folder" in str(pytest.raises(UserError, read_int8, tmp_path, most=1).value)
    assert "no such file" in str(pytest.raises(UserError, read_int8, tmp_path / "none", most=1).value)


@given(levels=st.binary(min_size=24, max_size=24))
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_what_python_unpickles(levels):
    array = np.frombuffer(levels, np.int8).reshape(4, 1, 3, 2)
    buffer = io.BytesIO()
    write_int8(buffer, array)
    loaded = pickle.loads(buffer.getvalue())
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == np.int8
    # NumPy 1 knows no numpy._core.
    assert b"_core" not in buffer.getvalue()


def test_files_that_pytorch_wrote(tmp_path: Path):
    expected = (np.arange(24, dtype=np.float32) / np.float32(255)).reshape(2, 3, 2, 2)
    for content in (REAL_ARCHIVE, REAL_LEGACY):
        (tmp_path / "x.pt").write_bytes(content)
        np.testing.assert_array_equal(read_tensor(tmp_path / "x.pt", most=24), expected)
        assert "larger than these" in refusal(read_tensor, content, tmp_path / "x.pt", most=23)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_every_float_type_and_stride(legacy, dtype, tmp_path: Path):
    array = NOISE.astype(dtype)

    def read(pickled: bytes) -> np.ndarray:
        data = array.tobytes()
        content = torch_legacy(pickled, data, n_values=array.size) if legacy else torch_archive(pickled, data)
        (tmp_path / "x.pt").write_bytes(content)
        found = read_tensor(tmp_path / "x.pt", most=array.size)
        assert found.dtype == dtype
        return found

    np.testing.assert_array_equal(read(tensor_pickle(array, legacy=legacy)), array)
    for view in (array.transpose(0, 2, 3, 1), array[:, :, ::2], array[:1]):
        said = {"shape": view.shape, "strides": tuple(stride // array.itemsize for stride in view.strides)}
        np.testing.assert_array_equal(read(tensor_pickle(array, legacy=legacy, **said)), view)
    behind = tensor_pickle(array, legacy=legacy, shape=array[2:].shape, offset=array[:2].size)
    np.testing.assert_array_equal(read(behind), array[2:])
    spread = tensor_pickle(array, legacy=legacy, strides=(0, *(int(s) // array.itemsize for s in array.strides[1:])))
    np.testing.assert_array_equal(read(spread), np.broadcast_to(array[0], array.shape))


def test_a_parameter_is_its_tensor(tmp_path: Path):
    pickled = tensor_pickle(NOISE, legacy=False)
    wrapped = (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + pickled[2:-1] + b"\x88ccollections\nOrderedDict\n)R\x87R."
    )
    (tmp_path / "x.pt").write_bytes(torch_archive(wrapped, NOISE.tobytes()))
    np.testing.assert_array_equal(read_tensor(tmp_path / "x.pt", most=NOISE.size), NOISE)


def test_files_of_other_things_are_refused(tmp_path: Path):
    path = tmp_path / "x.pt"
    tensor, data = tensor_pickle(NOISE, legacy=False), NOISE.tobytes()
    wrapped = b"\x80\x02}" + put("noise") + tensor[2:-1] + b"s."
    assert "holds a dict and not one tensor" in refusal(read_tensor, torch_archive(wrapped, data), path)
    assert "holds a list" in refusal(read_tensor, torch_archive(b"\x80\x02]" + tensor[2:-1] + b"a.", data), path)
    assert "holds something else" in refusal(read_tensor, torch_archive(b"\x80\x02K\x01.", data), path)
    for kind in (b"ctorch\nLongStorage\n", b"ctorch\nBFloat16Storage\n"):
        told = refusal(read_tensor, torch_archive(tensor_pickle(NOISE, legacy=False, storage=kind), data), path)
        assert f"asks for '{kind.decode()[1:-1]}'".replace("\n", ".") in told
    assert "other byte order" in refusal(read_tensor, torch_archive(tensor, data, byteorder=b"big"), path)
    legacy = tensor_pickle(NOISE, legacy=True)
    told = refusal(read_tensor, torch_legacy(legacy, data, n_values=NOISE.size, little_endian=False), path)
    assert "other byte order" in told
    assert "no file of torch.save" in refusal(read_tensor, pickle.dumps(1) + pickle.dumps(2), path)
    forged: list[dict] = [
        {"n_values": NOISE.size + 1},
        {"n_values": NOISE.size - 1},
        {"n_values": -1},
        {"offset": 1},
        {"offset": -1},
        {"offset": None},
        {"shape": (5, *NOISE.shape[1:])},
        {"shape": (0, *NOISE.shape[1:])},
        {"shape": (-1, *NOISE.shape[1:])},
        {"shape": NOISE.shape[:3]},
        {"shape": "text"},
        {"strides": (-1, 1, 1, 1)},
        {"strides": (2**70, 1, 1, 1)},
        {"strides": (1,) * 70, "shape": (1,) * 70},
        {"storage": put("FloatStorage")},
        {"storage": b"ctorch._utils\n_rebuild_parameter\n"},
    ]
    for changes in forged:
        told = refusal(read_tensor, torch_archive(tensor_pickle(NOISE, legacy=False, **changes), data), path)
        assert "truncated or damaged" in told, changes


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_gives_a_traceback(tmp_path_factory, data):
    kind, content = data.draw(
        st.sampled_from(
            [
                (read_tensor, torch_file(NOISE)),
                (read_tensor, torch_file(NOISE, legacy=True)),
                (read_int8, pickle.dumps(make_noise(4))),
                (read_int8, pickle.dumps(make_noise(4), 5)),
            ]
        )
    )
    changed = bytearray(content)
    # Among the instructions for the most part: the numbers come after them.
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, min(len(changed) - 1, 300)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged-pickle"
    path.write_bytes(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    with contextlib.suppress(UserError):
        assert kind(path, most=10**4).size <= 10**4


class _Storage:
    pass


class _TorchReader(pickle.Unpickler):
    """How PyTorch takes such a pickle, with NumPy in its place."""

    def find_class(self, module: str, name: str):
        return {
            ("torch._utils", "_rebuild_tensor_v2"): self.rebuild,
            ("torch", "FloatStorage"): _Storage,
            ("collections", "OrderedDict"): dict,
        }[module, name]

    def persistent_load(self, identity):
        kind, storage, key, device, n_values = identity
        assert (kind, storage, device) == ("storage", _Storage, "cpu")
        return key, n_values

    @staticmethod
    def rebuild(storage, offset, shape, strides, requires_grad, hooks):
        assert (offset, requires_grad, hooks) == (0, False, {})
        assert list(strides) == list(itertools.accumulate(reversed(shape[1:]), int.__mul__, initial=1))[::-1]
        return storage, shape


def test_what_is_written_is_what_pytorch_reads(tmp_path: Path):
    noise = NOISE.transpose(0, 2, 3, 1)[..., :2]  # of other strides than it is written with
    for name in ("a", "b"):
        with open(tmp_path / name, "wb") as file:
            write_tensor(file, noise)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert set(archive.namelist()) == {f"archive/{n}" for n in ("data.pkl", "byteorder", "data/0", "version")}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert (archive.read("archive/byteorder"), archive.read("archive/version")) == (b"little", b"3\n")
        (key, n_values), shape = _TorchReader(io.BytesIO(archive.read("archive/data.pkl"))).load()
        assert (key, n_values, shape) == ("0", noise.size, noise.shape)
        values = struct.unpack(f"<{noise.size}f", archive.read("archive/data/0"))
    np.testing.assert_array_equal(np.reshape(values, shape), noise)
    np.testing.assert_array_equal(read_tensor(tmp_path / "a", most=noise.size), noise)
