"""Tensors in PyTorch's own files, read and written without PyTorch; nothing in them is run.

Both formats of `torch.save` are read: the archive (PyTorch 1.6 and later) and the sequence of pickles before it, in
which every tensor is a view (offset, sizes, strides) of a storage that lies outside of the pickle.
"""

import dataclasses
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ugejax.app.exchange.files import TOO_LARGE, opened
from ugejax.errors import UserError
from ugejax.unpickle import Name, Refused, unpickle

# What begins the older format: its magic number and its version.
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    dtype: np.dtype
    key: str
    n_values: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    # Bytes are sequences of numbers as well, and may be as long as the file.
    if not (isinstance(storage, _Storage) and type(shape) is tuple and type(strides) is tuple):
        raise ValueError("not a view of a storage")
    if len(shape) != len(strides) or not all(_is_natural(number) for number in (offset, *shape, *strides)):
        raise ValueError("not a view of a storage")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.n_values:
        raise ValueError("a view of more than its storage")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _hooks() -> dict[Any, Any]:
    """The OrderedDict, empty at first, of a tensor's backward hooks."""
    return {}


_NAMES = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "collections.OrderedDict": _hooks,
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
}


def _storage(identity: Any) -> _Storage:
    # The device that it lay on is the fourth entry; in the older format a sixth says that it is no part of another.
    if type(identity) is not tuple:
        raise ValueError("not a storage")
    kind, dtype, key, _, n_values, *view = identity
    if kind != "storage" or type(key) is not str or not _is_natural(n_values) or view not in ([], [None]):
        raise ValueError("not a storage")
    if not (isinstance(dtype, Name) and isinstance(dtype.means, np.dtype)):
        raise ValueError("not a type of storage")
    return _Storage(dtype.means, key, n_values)


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def read_tensor(path: Path, *, most: int) -> np.ndarray:
    """The float tensor that a file of `torch.save` holds, float16, float32 or float64, of any strides and device.

    A `Parameter` is read as its tensor; a dict, a list or a whole checkpoint is refused, and so are other types.

    Args:
        path: file.
        most: values that the tensor may have.

    Raises:
        UserError: it cannot be read, is damaged or larger, or holds anything else.
    """
    with opened(path, most=8 * most) as file:
        try:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            return _read_archive(file, most) if zipped else _read_legacy(file, most)
        except Refused as error:
            raise UserError(f"{path}: {error}") from error
        # A damaged archive makes zipfile raise nearly anything.
        except Exception as error:
            raise UserError(f"{path}: not a whole file of torch.save (truncated or damaged?); get it again") from error


def _read_archive(file: BinaryIO, most: int) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        # What is compressed may unpack to any size.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise Refused("is compressed, which no file of torch.save is")
        (root,) = (name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl"))
        with archive.open(f"{root}data.pkl") as member:
            tensor = _checked(unpickle(member, _NAMES, _storage), most)
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise Refused("was written on a machine with the other byte order; save it again on a common one")
        return _view(tensor, archive.read(f"{root}data/{tensor.storage.key}"))


def _read_legacy(file: BinaryIO, most: int) -> np.ndarray:
    if (unpickle(file, {}), unpickle(file, {})) != _LEGACY:
        raise Refused("is no file of torch.save")
    if unpickle(file, {})["little_endian"] is not True:
        raise Refused("was written on a machine with the other byte order; save it again on a common one")
    tensor = _checked(unpickle(file, _NAMES, _storage), most)
    if unpickle(file, {}) != [tensor.storage.key] or file.read(8) != tensor.storage.n_values.to_bytes(8, "little"):
        raise ValueError("other storages")
    return _view(tensor, file.read(tensor.storage.n_values * tensor.storage.dtype.itemsize))


def _checked(value: Any, most: int) -> _Tensor:
    if not isinstance(value, _Tensor):
        what = f"a {type(value).__name__}" if isinstance(value, (dict, list, tuple)) else "something else"
        raise Refused(f"holds {what} and not one tensor; save the tensor of the noise alone: torch.save(noise, path)")
    if math.prod(value.shape) > most:
        # A file may declare numbers of hundreds of digits.
        raise Refused(f"a tensor of {str(list(value.shape))[:80]} {TOO_LARGE}")
    return value


def _view(tensor: _Tensor, data: bytes) -> np.ndarray:
    dtype = tensor.storage.dtype
    if len(data) != tensor.storage.n_values * dtype.itemsize:
        raise ValueError("a storage of another size")
    values = np.frombuffer(data, dtype)[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values, tensor.shape, strides, writeable=False).copy()


def write_tensor(file: BinaryIO, array: np.ndarray) -> None:
    """Writes a float32 array as `torch.save` writes a tensor, so that `torch.load(weights_only=True)` reads it."""
    array = np.ascontiguousarray(array, "<f4")
    strides = tuple(stride // array.itemsize for stride in array.strides)
    pickled = b"".join(
        [
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((",
            _instructions("storage"),
            b"ctorch\nFloatStorage\n",
            *(_instructions(value) for value in ("0", "cpu", array.size)),
            b"tQ",  # the tuple so far is the persistent id of the storage
            *(_instructions(value) for value in (0, array.shape, strides, False)),
            b"ccollections\nOrderedDict\n)RtR.",
        ]
    )
    with zipfile.ZipFile(file, "w") as archive:
        # Without a time of their own the members are of 1980-01-01, so that equal noise gives equal bytes.
        for name, content in {
            "data.pkl": pickled, "byteorder": b"little", "data/0": array.data.cast("B"), "version": b"3\n",
        }.items():  # fmt: skip
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)


def _instructions(value: Any) -> bytes:
    """Those that put a plain value on the stack: without the pickle's beginning and its STOP."""
    return pickle.dumps(value, protocol=2)[2:-1]
