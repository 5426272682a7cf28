"""Published CIFAR-10 weights of `r20` and `r56`, read from `.npz` files that keep PyTorch's names and layout."""

import zipfile
from pathlib import Path

import jax
import numpy as np

from ugejax.data.numpy_file import read_header, read_values
from ugejax.errors import UserError
from ugejax.networks.registry import variable_shapes

PRETRAINED = ("r20", "r56")
NUM_CLASSES = 10
MOST_UNPACKED = 2**26  # bytes, some twenty times what the larger of the two takes


def load_pretrained(name: str, path: str | Path) -> dict:
    """Variables of `build(name, 10)` from an `.npz` with the arrays of the PyTorch state dict.

    Args:
        name: "r20" or "r56".
        path: file with float arrays named as in akamaster/pytorch_resnet_cifar10 (`conv1.weight`, `layer1.0.bn1.bias`,
            `linear.weight`, ...), convolution kernels OIHW. Nothing in it is unpickled.

    Returns:
        {"params", "batch_stats"} of float32 arrays, kernels HWIO.

    Raises:
        UserError: the name has no published weights, the file cannot be read or unpacks to more than 64 MiB, or an
            array is missing, unexpected, of the wrong shape, not floating point or not finite.
    """
    if name not in PRETRAINED:
        raise UserError(f"there are no pretrained weights of {name!r}: choose one of {', '.join(PRETRAINED)}")
    arrays = _read(Path(path))
    template = variable_shapes(name, NUM_CLASSES, (32, 32, 3))
    variables = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: take(arrays, _torch_name(_names(keys)), leaf, path, kernel=keys[-1].key == "kernel"),
        template,
    )
    unexpected = sorted(key for key in arrays if not key.endswith("num_batches_tracked"))
    if unexpected:
        raise UserError(f"{path}: array {unexpected[0]!r} has no place in {name}: is this the file of another network?")
    return variables


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MOST_UNPACKED:
                raise UserError(f"{path}: unpacks to more than any of these networks: is this the right file?")
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    header = read_header(file, str(path))
                    if header.nbytes > member.file_size:
                        raise ValueError("more is declared than there is")
                    arrays[member.filename.removesuffix(".npy")] = read_values(file, header)
            return arrays
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: give the .npz of the pretrained weights") from None
    # A damaged file makes NumPy and zipfile raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: not a readable .npz of plain arrays ({error})") from None


def _names(keys: tuple) -> tuple[str, ...]:
    return tuple(key.key for key in keys)


def _torch_name(names: tuple[str, ...]) -> str:
    """PyTorch's name of a variable: ("params", "body", "layer1_0", "conv1", "kernel") is "layer1.0.conv1.weight"."""
    collection, part, *modules, leaf = names
    if part == "head":
        modules = ["linear"]
    if collection == "batch_stats":
        leaf = f"running_{leaf}"
    elif leaf in ("kernel", "scale"):
        leaf = "weight"
    return ".".join([module.replace("_", ".") for module in modules] + [leaf])


def take(
    arrays: dict[str, np.ndarray], key: str, leaf: jax.ShapeDtypeStruct, path: str | Path, *, kernel: bool
) -> jax.Array:
    """Removes the array of one variable from `arrays` and returns it in Flax's layout.

    Args:
        arrays: by PyTorch's names.
        key: the name.
        leaf: shape and dtype of the variable.
        path: what a message calls the file.
        kernel: whether it is a kernel, OIHW or [out, in] in the file. One that is OIHW there and has two axes here is
            that of a Dense layer on `ugejax.patches.patchify`.

    Raises:
        UserError: there is no such array, it has another shape, or holds something else than finite floats.
    """
    if key not in arrays:
        raise UserError(f"{path}: array {key!r} is missing: is this the file of another network?")
    array = arrays.pop(key)
    shown = array.shape
    if kernel:
        array = np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array.T
        array = array.reshape(-1, array.shape[-1]) if (array.ndim, len(leaf.shape)) == (4, 2) else array
    if array.shape != leaf.shape:
        raise UserError(f"{path}: array {key!r} has the wrong shape {shown}: is this the file of another network?")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise UserError(f"{path}: array {key!r} must hold finite floating-point numbers: fetch the file again")
    return jax.numpy.asarray(array, leaf.dtype)
