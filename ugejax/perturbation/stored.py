"""A trained generator in its own folder below its key, KEY/generators/NAME, as private as the key."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ugejax.checkpoint import restore_tree, save_tree
from ugejax.errors import UserError
from ugejax.perturbation.method import Method
from ugejax.perturbation.parametrisation import GeneratorState, parametrise
from ugejax.seal import Seal
from ugejax.whole import private, sync_tree, whole

SCHEMA = 1


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
    """Write the folder for its owner alone, its weights encrypted where a seal requires it, whole or not at all.

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
    with private(), whole(path) as partial:
        partial.mkdir()
        (partial / "generator.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
        save_tree(partial / "weights", _arrays(generator.state), seal)
        sync_tree(partial)


def read_generator(path: Path, image_shape: tuple[int, int, int], seal: Seal | None = None) -> StoredGenerator:
    """Read the folder.

    Args:
        path: the folder.
        image_shape: (H, W, C) of its key's images.
        seal: of its weights, where they may be encrypted.

    Raises:
        UserError: it holds no generator, or is damaged.
    """
    file = path / "generator.json"
    try:
        content = json.loads(file.read_text())
        settings: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in content["method"].items()
        }
        method, class_names = Method(**settings), tuple(content["class_names"])
        fingerprint = content["key_fingerprint"]
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


def _arrays(state: GeneratorState) -> dict:
    return {"texture": state.texture, "params": state.params}
