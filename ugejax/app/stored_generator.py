"""A trained generator in its own folder below its key, KEY/generators/NAME, as private as the key."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ugejax.app.checkpoint import restore_tree, save_tree, sealed
from ugejax.app.files import private, published, sync_tree
from ugejax.app.protection import check_budget, method_of
from ugejax.app.seal import Seal
from ugejax.errors import UserError
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import GeneratorState, parametrise

SCHEMA = 1
_DESCRIBED = "generator.json"


@dataclasses.dataclass(frozen=True)
class StoredGenerator:
    """What it takes to protect new images.

    Attributes:
        method: the settings that it was trained by.
        class_names: of the classes whose textures it has, in their order.
        key_fingerprint: of the key whose blind set it was trained in.
        state: textures and weights; without the optimizer's state.
    """

    method: Method
    class_names: tuple[str, ...]
    key_fingerprint: str
    state: GeneratorState


def write_generator(path: Path, generator: StoredGenerator, seal: Seal | None = None) -> None:
    """Write the folder for its owner alone, encrypted where a seal requires it, whole or not at all.

    One that exists is left alone, being the same.

    Raises:
        UserError: it cannot be written.
    """
    if path.exists():
        return
    described = {
        "schema": SCHEMA,
        "method": generator.method.described,
        "class_names": generator.class_names,
        "key_fingerprint": generator.key_fingerprint,
    }
    content = json.dumps(described, indent=2, sort_keys=True) + "\n"
    with private(), published(path) as partial:
        partial.mkdir()
        if seal is not None and seal.required:
            (seal / _DESCRIBED).write(sealed(partial / _DESCRIBED), io.BytesIO(content.encode()))
        else:
            (partial / _DESCRIBED).write_text(content)
        save_tree(partial / "weights", _arrays(generator.state), seal)
        sync_tree(partial)


def read_generator(path: Path, image_shape: tuple[int, int, int], seal: Seal | None = None) -> StoredGenerator:
    """Read the folder.

    Args:
        path: the folder.
        image_shape: (H, W, C) of its key's images.
        seal: of the folder, where it may be encrypted.

    Raises:
        UserError: it holds no generator, is damaged, or is not encrypted and has to be.
    """
    file = path / _DESCRIBED
    if seal is not None:
        seal.check_plain(file)
    encrypted = None if seal is None or not sealed(file).exists() else (seal / _DESCRIBED).read(sealed(file))
    try:
        content = json.loads(file.read_bytes() if encrypted is None else encrypted)
        settings: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in content["method"].items()
        }
        method, class_names = method_of((), **settings), tuple(content["class_names"])
        fingerprint = content["key_fingerprint"]
        _check(method, class_names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read as a generator ({error!r})") from error
    textures = jax.ShapeDtypeStruct((len(class_names), *image_shape), jnp.float32)
    like = jax.eval_shape(
        lambda t: parametrise(method, image_shape).start(jax.random.key(0), t, jnp.zeros(0, jnp.int32)), textures
    )
    arrays = restore_tree(path / "weights", _arrays(like), seal)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(arrays)):
        raise UserError(f"{path}: its weights are non-finite; it is damaged")
    return StoredGenerator(method, class_names, fingerprint, GeneratorState(**arrays, opt_state=None))


def _check(method: Method, class_names: tuple[Any, ...]) -> None:
    """Raise a ValueError where what was read is not of a generator, not of its types, or has no budget."""
    if method.parametrisation != "generator":
        raise ValueError(f"parametrisation {method.parametrisation!r}")
    for name, value in vars(method).items():
        usual = getattr(Method, name)
        if not isinstance(value, (int, float) if isinstance(usual, float) else type(usual)):
            raise ValueError(f"{name} {value!r}")
    check_budget(method.eps, method.norm)
    if not all(isinstance(name, str) for name in class_names):
        raise ValueError("names of classes are no text")


def is_generator(path: Path) -> bool:
    """Whether the folder looks like that of a generator."""
    return (path / _DESCRIBED).is_file() or sealed(path / _DESCRIBED).is_file()


def seal_description(path: Path, seal: Seal) -> None:
    """Put encrypted settings in the place of those of a generator's folder that are not; nothing where none are."""
    file = path / _DESCRIBED
    if file.is_file():
        with open(file, "rb") as content:
            (seal / _DESCRIBED).write(sealed(file), content)
        file.unlink()


def _arrays(state: GeneratorState) -> dict:
    return {"texture": state.texture, "params": state.params}
