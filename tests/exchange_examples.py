"""Toy originals, files as other tools write them, and pickles that would run something if anybody unpickled them."""

import base64
import contextlib
import io
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ugejax.data import Dataset, Splits

SIDES = (3, 5, 2)  # channels, height, width: no two alike, so that nothing passes transposed
NAMES = ("cat", "dog", "kühe")
# torch.save(torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2) / 255, ...) of PyTorch 2.13.0, as an archive and
# with _use_new_zipfile_serialization=False, compressed by zlib.
REAL_ARCHIVE = zlib.decompress(
    base64.b85decode(
        "c-oy*&ui0A9DhmrGxgxKNGB*>gbuVz`fD5Zp%lp_2fK+d1|!STSc6%!m%dHZONR*CZQkZZI&d)YGEdIi{12S$D7Yblo>cG;@SCL6G;2HYL3l"
        "68=ks}=@B4m|ip+%&ip9{e!J`zSqg9ovnZ^62R8FFq9;3->)UvgE8D)tYW`kF3eSXO>s|wZY4a-)RvphlR^mG&y8-P@6I$=BtFPWA~Z+j1U!"
        "cH@Q5ePTU!K^JVk&v9CBs?jjw9LvJTr4G#w0ueq!J45Yx~6HCY3dp^ta^jLWmk1uuii8?%9Gg06p2&9Pmx5XB1dDh2Vc*>1YPH<^sRXaU4WW1"
        "cP)ECrOL8yH$Yh`5BDtH9ik)t_Q$6uj(KLFcoJbpynPCaY8tirf?lUmd7{7mNu!u|3|xOezO%3eJJ3J^g~7o5L#kWOQAuS6&6ozIrtWAw#b1U"
        "afQk&%h@ntB6{CVw_MWXYo7YyFsPumCMhVuX%~lK6d!?hpL%2uy+4^a`*}8<^><Abzc>hBMA05u&Uq2Ty;PKk(Dqz;}^NkI_weYL$ZNTo}ce}g"
        "TarXG^=Yu)eXKtXgI2r+Got|C(w=>Q0&JO!8YIjaPzZ4pG8t4|^&}{=c_(*lKrx;bKod2&TiiNT4xHvIU5XJFAzL?Jm*`kmu2!bdU$HZ)2$mOz"
        "Gc;&b(Y<+v31|MnHCBwS?X#4c%n?L6K?{^&J`J+43#rf^>0^dTA?hjtFi$2Mqo@oy%_+yvoQuyd9bmAH$`cu)}taB{tWHiX~cRJq1+HqNZ>hv"
        "Fds*84pLw!S0kt2~SZQMofYKIdI%v+2%?{eM@JonXX*t_@sE8&R8iMn_X`v=RdJAV"
    )
)
REAL_LEGACY = zlib.decompress(
    base64.b85decode(
        "c-n1`Jx{|h5Qg0(P%s~2gso#(DpZ9p5lalHi^W%2vY=2>s{}=HFL97SLQ1!mscc1JC|lXe1{?eX_y_IC1|t#!S30m@$<}-4=kDH1wJREY-xj"
        "}er`^4Ue5!4~>-b&*F`YR=NG*~|dNOd&L=^ingbV`C4E_YZQh{(qSn<mtXbp#AQk~a?8~Ya`2K^EY(;35Ld?F(SV_b7|jQmi+I5!+)*h7X@$"
        "Z{h|aHgkZ<elW*MEOBX-AEiKeo%3h2xA$!X9bF$OeZ^Rh-A4cATuhV#Xy$T!6->Vb7qlQw^psSmF0qEtrx5{(0^xpwFC@4zk_b}IWf7$b-Wr"
        "HGWj$&P-hfmn;tG42v6a@G2M+SA`+D?-%}JO7E3UxfR<ni9UlVuZ&s$9pC^B(o~9f1l-MuNn>K3uuG2yNY!CW<j0wAL&9S>qjy?327&7ebb&"
        "n1DN9^;X#*k;tMgy4^yJ@$P>#+N77ug<rdVFL*??sS6"
    )
)


REPORTED = {"pickle.find_class", "compile", "exec", "os.system", "os.posix_spawn", "subprocess.Popen"}
_reports: list[str] | None = None


def _report(event: str, arguments: tuple) -> None:
    if _reports is not None and event in REPORTED:
        _reports.append(event)


sys.addaudithook(_report)  # which stays for good, hence the switch


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """What the interpreter reports of names looked up by an unpickler, of code and of other programs."""
    global _reports
    _reports = reports = []
    try:
        yield reports
    finally:
        _reports = None


def make_splits(n: int = 12, *, channels: int = 3, chosen: tuple[int, ...] | None = None) -> Splits:
    """n originals of three classes; with `chosen`, those of them alone."""
    _, height, width = SIDES
    images = np.random.default_rng(0).integers(0, 256, (n, height, width, channels)).astype(np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    indices = np.arange(n) if chosen is None else np.array(chosen)
    return Splits(Dataset(images[indices], (np.arange(n, dtype=np.int32) % 3)[indices], NAMES), None, indices, n)


def make_noise(n: int, *, channels: int = 3, largest: int = 8, seed: int = 1) -> np.ndarray:
    """Noise in grey levels, int8 [n, C, H, W], every level of both signs in it."""
    _, height, width = SIDES
    levels = np.random.default_rng(seed).integers(-largest, largest + 1, (n, channels, height, width))
    levels[0, 0, 0] = (-largest, largest)
    return levels.astype(np.int8)


def protected(splits: Splits, levels: np.ndarray) -> np.ndarray:
    """Originals and noise [n, C, H, W] added as whole numbers, in a way of its own."""
    total = splits.train.images.astype(int) + levels.astype(int).transpose(0, 2, 3, 1)
    return np.minimum(np.maximum(total, 0), 255).astype(np.uint8)


def tensor_pickle(array: np.ndarray, *, legacy: bool, **changes: Any) -> bytes:
    """The instructions by which PyTorch saves a tensor; `changes` forges what they say."""
    storage = {2: b"HalfStorage", 4: b"FloatStorage", 8: b"DoubleStorage"}[array.itemsize]
    said = {
        "storage": b"ctorch\n" + storage + b"\n",
        "n_values": array.size,
        "offset": 0,
        "shape": array.shape,
        "strides": tuple(stride // array.itemsize for stride in array.strides),
    } | changes

    def put(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    return b"".join(
        [
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((", put("storage"), said["storage"], put("0"), put("cuda:0"),
            put(said["n_values"]), b"N" * legacy, b"tQ", put(said["offset"]), put(said["shape"]), put(said["strides"]),
            b"\x89ccollections\nOrderedDict\n)RtR.",
        ]
    )  # fmt: skip


def torch_archive(pickled: bytes, data: bytes, *, compress: int = zipfile.ZIP_STORED, byteorder: bytes = b"little"):
    """A file of `torch.save` with this pickle and this storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, content in {"data.pkl": pickled, "byteorder": byteorder, "data/0": data, "version": b"3\n"}.items():
            archive.writestr(f"perturbation/{name}", content)
    return buffer.getvalue()


def torch_legacy(pickled: bytes, data: bytes, *, n_values: int, little_endian: bool = True) -> bytes:
    """A file of `torch.save` before PyTorch 1.6 with this pickle and this storage."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little_endian}]
    return b"".join(
        [*(pickle.dumps(part, 2) for part in head), pickled, pickle.dumps(["0"], 2), struct.pack("<q", n_values), data]
    )


def torch_file(array: np.ndarray, *, legacy: bool = False) -> bytes:
    """A C-contiguous array as a tensor in a file of either format."""
    pickled = tensor_pickle(array, legacy=legacy)
    if legacy:
        return torch_legacy(pickled, array.tobytes(), n_values=array.size)
    return torch_archive(pickled, array.tobytes())


class State:
    """What runs something as soon as BUILD gives it its state."""

    def __setstate__(self, state: str) -> None:
        Path(state).write_text("")


def put(text: str) -> bytes:
    """The instruction that puts a text on the stack."""
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def call(name: str, *arguments: bytes) -> bytes:
    """Those that call what `module.name` names."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(".encode() + b"".join(arguments) + b"tR"


def live_pickles(sentinel: Path) -> dict[str, bytes]:
    """Pickles each of which makes the sentinel when Python unpickles it, even where that then fails."""
    line, command = f"open({str(sentinel)!r}, 'w').close()", f"touch {sentinel}"
    evil = call("builtins.eval", put(line))
    array = pickle.dumps(np.zeros(3, np.int8), 3)[2:-1]
    state = f"c{__name__}\nState\n".encode()
    bodies = {
        "os.system": call("posix.system", put(command)),
        "eval": evil,
        "exec": call("builtins.exec", put(line)),
        "a call in a call": call("builtins.str", evil),
        "a method": call("builtins.getattr", call("builtins.__import__", put("os")), put("system"))
        + b"(" + put(command) + b"tR",
        "a call in an array": call("numpy.core.multiarray._reconstruct", evil),
        "a call in a tensor": call("torch._utils._rebuild_tensor_v2", evil),
        "a call in a storage": b"(" + put("storage") + evil + b"tQ",
        "a pickle in a pickle": call("_pickle.loads", pickle.dumps(b"\x80\x02" + evil + b".", 3)[2:-1]),
        "a value": b"}" + put("noise") + evil + b"s",
        "a key": b"}" + evil + b"K\x01s",
        "after an array": b"(" + array + evil + b"t",
        "before an array": evil + b"0" + array,
        "state of an array": array + evil + b"b",
        "state of another object": state + b")\x81" + put(str(sentinel)) + b"b",
        "NEWOBJ_EX": b"cpathlib\nPosixPath\n" + evil + b"\x85}\x92",
        "STACK_GLOBAL": put("builtins") + put("eval") + b"\x93" + put(line) + b"\x85R",
        "INST": b"(" + put(line) + b"ibuiltins\neval\n",
        "OBJ": b"(cbuiltins\neval\n" + put(line) + b"o",
    }  # fmt: skip
    text = b"cbuiltins\neval\n(V" + line.encode() + b"\ntR."
    return {name: b"\x80\x04" + body + b"." for name, body in bodies.items()} | {"protocol 0": text}
