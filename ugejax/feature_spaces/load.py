"""From weights on the disk to a feature space; nothing is ever downloaded.

A family is a function that knows its architecture from the names and shapes of the arrays, and one line in `FAMILIES`.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ugejax.errors import UserError
from ugejax.feature_spaces.clip_resnet import ClipResNet
from ugejax.feature_spaces.preprocessing import Preprocessing
from ugejax.feature_spaces.vision_transformer import ACTIVATIONS, ClipVisionTransformer, Dinov2
from ugejax.networks import build, load_pretrained
from ugejax.networks.pretrained import NUM_CLASSES, PRETRAINED, take
from ugejax.networks.resnet import IMAGENET_MEAN, IMAGENET_STD
from ugejax.networks.safetensors import read_safetensors

# Of openai/CLIP's preprocessing.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HEAD = 64  # channels of an attention head in all published CLIP and DINOv2 transformers, where no config.json tells
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """A frozen encoder.

    Attributes:
        family: "clip-vit", "clip-resnet", "dinov2", or a network of `PRETRAINED`.
        sha256: of the file of its weights, in hexadecimal.
        encode: images float [B, H, W, 1 or 3] in [0, 1] to features [B, F], preprocessing included; pure and
            differentiable.
    """

    family: str
    sha256: str
    encode: Callable[[jax.Array], jax.Array] = field(repr=False)

    def size(self, shape: tuple[int, ...]) -> int:
        """F for images of shape (H, W, C); nothing is computed."""
        return jax.eval_shape(self.encode, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[-1]


@dataclass(frozen=True)
class Family:
    """A family of encoders.

    Attributes:
        known_by: an array that every member has and no other family has.
        names: pattern of the names of the arrays that belong to the encoder; others are left alone.
        build: (arrays, config.json) -> (flax module, its default preprocessing).
    """

    known_by: str
    names: str
    build: Callable[[Arrays, Mapping[str, Any]], tuple[Any, Preprocessing]]


def _clip_vit(arrays: Arrays, config: Mapping[str, Any]) -> tuple[nn.Module, Preprocessing]:
    config = config.get("vision_config", config)
    patches = arrays["vision_model.embeddings.patch_embedding.weight"]
    positions = arrays["vision_model.embeddings.position_embedding.weight"]
    module = ClipVisionTransformer(
        **_transformer(arrays, config, patches, len(positions), "vision_model.encoder.layers", "quick_gelu", 1e-5),
        projection=len(arrays["visual_projection.weight"]),
    )
    side = module.grid * module.patch
    return module, Preprocessing(side, side, CLIP_MEAN, CLIP_STD)


def _dinov2(arrays: Arrays, config: Mapping[str, Any]) -> tuple[nn.Module, Preprocessing]:
    patches = arrays["embeddings.patch_embeddings.projection.weight"]
    positions = arrays["embeddings.position_embeddings"]
    settings = _transformer(arrays, config, patches, positions.shape[1], "encoder.layer", "gelu", 1e-6)
    return Dinov2(**settings), Preprocessing(256, 224, IMAGENET_MEAN, IMAGENET_STD)


def _clip_resnet(arrays: Arrays, config: Mapping[str, Any]) -> tuple[nn.Module, Preprocessing]:
    blocks = tuple(_count(arrays, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    width, projection = len(arrays["visual.conv3.weight"]), len(arrays["visual.attnpool.c_proj.weight"])
    side = 32 * round((len(arrays["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    return ClipResNet(width, blocks, projection), Preprocessing(side, side, CLIP_MEAN, CLIP_STD)


FAMILIES: dict[str, Family] = {
    "clip-vit": Family("visual_projection.weight", r"(vision_model|visual_projection)\.(?!.*position_ids)", _clip_vit),
    "clip-resnet": Family("visual.attnpool.positional_embedding", r"visual\.(?!.*num_batches_tracked)", _clip_resnet),
    "dinov2": Family("embeddings.cls_token", r"(?!embeddings\.mask_token)", _dinov2),
}


def _transformer(
    arrays: Arrays, config: Mapping[str, Any], patches: np.ndarray, positions: int, layers: str, activation: str,
    epsilon: float,
) -> dict[str, Any]:  # fmt: skip
    """The settings that both transformers share: from the arrays what shapes tell, the rest from config.json."""
    width = len(patches)
    return {
        "width": width,
        "depth": _count(arrays, re.escape(layers) + r"\.(\d+)\."),
        "heads": config.get("num_attention_heads", width // HEAD),
        "hidden": len(arrays[f"{layers}.0.mlp.fc1.weight"]),
        "patch": patches.shape[-1],
        "grid": round((positions - 1) ** 0.5),
        "activation": config.get("hidden_act", activation),
        "epsilon": config.get("layer_norm_eps", epsilon),
    }


def _count(arrays: Arrays, pattern: str) -> int:
    """One more than the largest number in the names that match."""
    return 1 + max(int(found[1]) for name in arrays if (found := re.match(pattern, name)))


def load_feature_space(path: str | Path) -> FeatureSpace:
    """A frozen encoder from weights on the disk.

    Args:
        path: a safetensors file; a Hugging Face folder with `model.safetensors` (or open_clip's
            `open_clip_model.safetensors`) and, where it differs from the published networks', `config.json` and
            `preprocessor_config.json`; or an `.npz` of `load_pretrained`. CLIP's vision transformers and DINOv2 have
            the names of Hugging Face's `transformers`, CLIP's ResNets those of openai/CLIP and open_clip.

    Raises:
        UserError: there are no such weights, they are damaged, of no known family, or an array is missing, unexpected
            or of the wrong shape.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
        if file is None:
            raise UserError(
                f"{path}: holds no {WEIGHTS[0]}, whole and in one file; put the weights of the encoder there"
            )
    if file.suffix == ".npz":
        return _published_cifar(file)
    name = ""

    def choose(names: list[str]) -> list[str]:
        nonlocal name
        name = next((known for known, family in FAMILIES.items() if family.known_by in names), "")
        if not name:
            raise UserError(f"{file}: not the weights of CLIP's image tower (with its projection) or of DINOv2")
        return [each for each in names if re.match(FAMILIES[name].names, each)]

    arrays = read_safetensors(file, choose)
    config, preprocessor = (
        _json(path / f"{part}.json") if path.is_dir() else {} for part in ("config", "preprocessor_config")
    )
    try:
        module, preprocessing = FAMILIES[name].build(arrays, config)
    except KeyError as error:
        raise UserError(f"{file}: array {error} is missing; fetch the file again") from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: shapes or settings are not those of {name}; fetch the files again") from error
    try:
        preprocessing = _preprocessing(preprocessor, preprocessing)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path / 'preprocessor_config.json'}: its settings are not those of {name}") from error
    if getattr(module, "activation", "gelu") not in ACTIVATIONS:
        raise UserError(f"{path / 'config.json'}: hidden_act must be one of {', '.join(ACTIVATIONS)}")
    variables = _fill(module, arrays, preprocessing.crop, file)
    return FeatureSpace(name, _sha256(file), lambda x: module.apply(variables, preprocessing(x)))


def _published_cifar(file: Path) -> FeatureSpace:
    first, *others = PRETRAINED
    for name in others:
        with contextlib.suppress(UserError):
            return _of_network(name, file)
    return _of_network(first, file)  # which says what is wrong


def _of_network(name: str, file: Path) -> FeatureSpace:
    module: Any = build(name, NUM_CLASSES)
    variables = load_pretrained(name, file)

    def encode(x: jax.Array) -> jax.Array:
        rgb = jnp.broadcast_to(x, (*x.shape[:-1], 3))  # which the weights are for; a grey image has one channel
        return module.apply(variables, rgb, train=False, method="features")

    return FeatureSpace(name, _sha256(file), encode)


def _fill(module: nn.Module, arrays: Arrays, side: int, file: Path) -> Any:
    """The module's variables from arrays with PyTorch's names."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    try:
        template = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), image)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{file}: its arrays do not fit together, or not with images of {side} pixels") from error
    left = dict(arrays)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: take(
            left, _torch_name([key.key for key in path]), leaf, file, kernel=path[-1].key == "kernel"
        ),
        template,
    )
    if left:
        raise UserError(f"{file}: array {min(left)!r} has no place: is this the file of another network?")
    return variables


def _torch_name(names: list[str]) -> str:
    collection, *modules, leaf = names
    if collection == "batch_stats":
        leaf = f"running_{leaf}"
    return ".".join([*modules, {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)])


def _preprocessing(given: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """What preprocessor_config.json says, in either of its generations; what it leaves out is the default."""

    def side(name: str, key: str, otherwise: int) -> int:
        value: Any = given.get(name, otherwise)
        return int(value[key if key in value else "height"] if isinstance(value, dict) else value)

    short_side, crop = side("size", "shortest_edge", default.short_side), side("crop_size", "height", default.crop)
    if not 0 < crop <= short_side:
        raise ValueError("a crop larger than the image")
    mean, std = tuple(given.get("image_mean", default.mean)), tuple(given.get("image_std", default.std))
    return Preprocessing(short_side, crop, mean, std)


def _json(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is none.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a readable JSON file; fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: not a JSON object; fetch it again")
    return content


def read_prototypes(path: str | Path, *, num_classes: int, size: int) -> np.ndarray:
    """Prototypes of the classes, such as CLIP's features of their names in prompts, float32 [num_classes, size].

    Args:
        path: a `.npy` file of floats [K, F], in the order of the classes.
        num_classes: K.
        size: F, the number of features.

    Raises:
        UserError: the file is not there, not such an array, or holds something that is not finite or without direction.
    """
    try:
        prototypes = np.load(path, allow_pickle=False)
    # A damaged file makes NumPy raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: not a readable .npy file; give one float for each class and feature") from error
    if (
        not isinstance(prototypes, np.ndarray)
        or prototypes.shape != (num_classes, size)
        or prototypes.dtype.kind != "f"
    ):
        raise UserError(
            f"{path}: prototypes must be one array of floats [{num_classes}, {size}]: one row a class, in the order "
            "of the class names, and a column for each feature"
        )
    if not np.isfinite(prototypes).all() or not prototypes.any(axis=1).all():
        raise UserError(f"{path}: prototypes must be finite, and none may be zero")
    return prototypes.astype(np.float32)


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
