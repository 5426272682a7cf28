"""Feature spaces give what their PyTorch originals give, follow gradients, and refuse what is no such encoder.

`feature_spaces/make.py` made the small encoders and recorded what torch, transformers and open_clip say of them.
"""

import json
import shutil
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ugejax.app.cli import main
from ugejax.app.protection import Protection
from ugejax.authorized import AuthorizedNetwork
from ugejax.errors import UserError
from ugejax.feature_spaces import FeatureSpace, load_feature_space, read_prototypes
from ugejax.feature_spaces.clip_resnet import ClipResNet
from ugejax.feature_spaces.load import FAMILIES
from ugejax.feature_spaces.preprocessing import Preprocessing
from ugejax.feature_spaces.vision_transformer import ClipVisionTransformer, Dinov2, bicubic
from ugejax.networks import count_parameters
from ugejax.networks.safetensors import read_safetensors
from ugejax.training import Recipe
from ugejax.uge import Method
from ugejax.views import IdentityView

SPACES = Path(__file__).parent / "feature_spaces"
SIDES = {"clip-vit": 32, "dinov2": 42, "clip-resnet": 64}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_pytorch(name):
    space = load_feature_space(SPACES / name)
    with np.load(SPACES / "expected.npz") as expected:
        images, features = expected[str(SIDES[name])], expected[name]
    assert space.family == name
    assert space.size(images.shape[1:]) == features.shape[1]
    assert np.median(features.std(axis=0)) > 0.02  # they tell the images apart
    np.testing.assert_allclose(jax.jit(space.encode)(images.astype(np.float32) / 255), features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("module", "side", "parameters"),
    [
        (ClipVisionTransformer(768, 12, 12, 3072, patch=32, grid=7, projection=512), 224, 87_849_216),  # ViT-B/32
        (ClipVisionTransformer(768, 12, 12, 3072, patch=16, grid=14, projection=512), 224, 86_192_640),  # ViT-B/16
        (ClipResNet(64, (3, 4, 6, 3), 1024), 224, 38_316_896),  # RN50
        (Dinov2(768, 12, 12, 3072, patch=14, grid=37), 224, 86_580_480 - 768),  # ViT-B/14, without the mask token
    ],
)
def test_published_sizes_have_the_parameters_of_their_originals(module, side, parameters):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.eval_shape(lambda: jax.random.key(0)), image)
    assert count_parameters(variables) == parameters


@pytest.mark.parametrize(("shape", "short_side"), [((40, 50), 28), ((31, 20), 28), ((28, 28), 28), ((60, 30), 30)])
def test_images_are_scaled_and_cropped_as_by_pillow(shape, short_side):
    smooth = np.random.default_rng(0).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    image = Image.fromarray(smooth).resize(shape[::-1], Image.Resampling.BICUBIC)
    width, height = (short_side * side // min(shape) for side in image.size)
    left, top = (width - 28) // 2, (height - 28) // 2
    expected = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 28, top + 28))
    preprocess = Preprocessing(short_side, 28, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    result = np.asarray(preprocess(jnp.asarray(image, jnp.float32)[None] / 255))[0] * (0.2, 0.25, 0.3)
    # Pillow rounds to 8 bits after each axis.
    assert np.abs(255 * (result + (0.5, 0.4, 0.3)) - np.asarray(expected, float)).max() < 2


def test_grey_images_are_seen_as_rgb_and_gradients_pass():
    preprocess = Preprocessing(16, 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    grey = jax.random.uniform(jax.random.key(0), (1, 8, 14, 1), minval=0.2, maxval=0.8)
    np.testing.assert_array_equal(preprocess(grey), preprocess(jnp.repeat(grey, 3, axis=-1)))
    gradient = np.asarray(jax.grad(lambda x: preprocess(x).sum())(grey))[0, :, :, 0]
    assert (gradient[2:-2, 5:-5] > 0).all()  # within the crop
    assert (gradient[:, 0] == 0).all()  # outside of it


def test_bicubic_interpolation_is_pytorchs():
    np.testing.assert_array_equal(bicubic(5, 5), np.eye(5))
    # From 2 to 4: places -0.25, 0.25, 0.75 and 1.25; the cubic of -0.75 at 0.75, 0.25, 1.25 and 1.75.
    near, far, farther = 0.8789, 0.2617, -0.1055
    np.testing.assert_allclose(bicubic(2, 4)[1], [near + farther, far - 0.0352], atol=1e-4)
    np.testing.assert_allclose(bicubic(37, 16).sum(axis=1), 1, atol=1e-6)


def change(folder: Path, **arrays: tuple[str, list[int], bytes] | None) -> None:
    """Arrays of a safetensors file replaced, or taken out."""
    file = next(folder.glob("*.safetensors"))
    content = file.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    header.pop("__metadata__", None)
    kept = {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in header.items()}
    header, data = {}, b""
    for name, array in (kept | arrays).items():
        if array is not None:
            dtype, shape, values = array
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
            data += values
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


NORM = "vision_model.post_layernorm.bias"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({NORM: None}, f"'{NORM}' is missing"),
        ({NORM: ("F32", [3], bytes(12))}, f"'{NORM}' has the wrong shape"),
        ({NORM: ("F32", [16], b"\xff" * 64)}, f"'{NORM}' must hold finite"),
        ({NORM: ("I32", [16], bytes(64))}, "not a whole safetensors file"),
        ({NORM: ("F32", [16], bytes(60))}, "not a whole safetensors file"),
        ({"vision_model.other.weight": ("F16", [1], bytes(2))}, "'vision_model.other.weight' has no place"),
        ({"visual_projection.weight": None}, "not the weights of"),
        ({"vision_model.encoder.layers.0.mlp.fc1.weight": None}, "fc1.weight' is missing"),
    ],
)
def test_changed_weights_are_refused_in_one_line(tmp_path, arrays, message):
    folder = shutil.copytree(SPACES / "clip-vit", tmp_path / "clip")
    change(folder, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load_feature_space(folder)
    assert "\n" not in str(caught.value)


def test_what_is_not_of_the_encoder_is_left_alone_and_bfloat16_is_read(tmp_path):
    folder = shutil.copytree(SPACES / "clip-vit", tmp_path / "clip")
    text = {"text_model.final_layer_norm.bias": ("I64", [1], bytes(8)), "logit_scale": ("F32", [], bytes(4))}
    positions = {"vision_model.embeddings.position_ids": ("I64", [1, 2], bytes(16))}
    half = struct.pack("<H", 0x3F40) * 16  # 0.75 in bfloat16
    change(folder, **text, **positions, **{NORM: ("BF16", [16], half)})
    assert load_feature_space(folder).family == "clip-vit"
    arrays = read_safetensors(folder / "model.safetensors", lambda names: [NORM])
    np.testing.assert_array_equal(arrays[NORM], np.full(16, 0.75, np.float32))


def test_files_that_hold_no_encoder_are_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes((SPACES / "dinov2" / "model.safetensors").read_bytes()[:9000])
    (tmp_path / "huge.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "list.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")
    for name, message in (
        ("cut", "not a whole"),
        ("huge", "not a whole"),
        ("list", "not a whole"),
        ("gone", "no such"),
    ):
        with pytest.raises(UserError, match=f"{name}.safetensors: {message}"):
            load_feature_space(tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="holds no model.safetensors"):
        load_feature_space(tmp_path)
    folder = shutil.copytree(SPACES / "clip-vit", tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text('{"crop_size": 64}')
    with pytest.raises(UserError, match="preprocessor_config.json: its settings are not those of clip-vit"):
        load_feature_space(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not a readable JSON file"):
        load_feature_space(folder)


def test_prototypes_are_checked(tmp_path):
    file = tmp_path / "prototypes.npy"
    np.save(file, np.eye(3, 8))
    assert read_prototypes(file, num_classes=3, size=8).dtype == np.float32
    for array, message in (
        (np.eye(8, 3), r"floats \[3, 8\]"),
        (np.eye(3, 8, dtype=int), "floats"),
        (np.eye(3, 8) * np.nan, "finite"),
        (np.zeros((3, 8)), "none may be zero"),
        (np.array([object()]), "not a readable .npy"),
    ):
        np.save(file, array)
        with pytest.raises(UserError, match=f"prototypes.npy: .*{message}"):
            read_prototypes(file, num_classes=3, size=8)


def test_published_cifar_weights_are_a_feature_space(shared_data):
    file = shared_data / "weights" / "resnet56-4bfd9763.npz"
    if not file.exists():
        pytest.skip(f"{file} is missing")
    space = load_feature_space(file)
    assert (space.family, space.size((32, 32, 3)), space.size((8, 8, 1))) == ("r56", 64, 64)


@pytest.mark.parametrize("given", [True, False])
def test_a_perturbation_moves_features_towards_the_wrong_class(tmp_path, given):
    # Features are the means of the channels; class 0 is to look like 1, and the other way round.
    space = FeatureSpace("toy", "", lambda x: x.mean(axis=(1, 2)))
    images = np.full((20, 4, 4, 3), 100, np.uint8)
    labels = np.arange(20, dtype=np.int32) % 2
    images[labels == 0, ..., 0] += 40
    images[labels == 1, ..., 1] += 40
    prototypes = np.array([[1, 0, 0], [0, 1, 0]], np.float32) if given else None
    method = Method(
        epochs=3, gradient_matching=0, feature_loss="distance", surrogates=(), batch_size=10, period=2, transforms=()
    )  # fmt: skip
    network = AuthorizedNetwork(IdentityView(), None, None, "all")
    key = jax.random.key(0)
    job = Protection(
        method, network, Recipe(), 2, key, key, b"secret", rounding_key=key, feature_space=space, prototypes=prototypes
    )
    losses = []
    released = job.run(images, labels, tmp_path, lambda *report: losses.append(report[-1]["feature_distance"]))
    assert losses[-1] < losses[0]
    moved = (released.astype(int) - images).mean(axis=(1, 2))
    assert (moved[labels == 0, 1] > moved[labels == 0, 0]).all()
    assert (moved[labels == 1, 0] > moved[labels == 1, 1]).all()


def test_the_command_names_the_feature_space_in_the_card(tmp_path, capsys):
    np.savez(tmp_path / "toy.npz", data=np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8), targets=np.arange(12) % 3)
    np.save(tmp_path / "prototypes.npy", np.eye(3, 8))
    protect = ["protect", str(tmp_path / "toy.npz"), "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K")]
    protect += ["--network", "mlp", "--prototypes", str(tmp_path / "prototypes.npy")]
    space = ["--feature-space", str(SPACES / "clip-vit")]
    for mistake, message in (
        ([], "--prototypes: lie in a feature space"),
        ([*space, "--feature-loss", "error-min"], "--feature-loss error-min: in a feature space"),
        (["--feature-space", str(tmp_path)], "holds no model.safetensors"),
    ):
        assert main([*protect, *mistake]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "R").exists() and not (tmp_path / "K").exists()
    assert main([*protect, *space, "--perturbation-epochs", "0"]) == 0
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert card["settings"]["feature_loss"] == "distance" and card["settings"]["surrogates"] == []
    assert card["feature_space"]["family"] == "clip-vit"
    assert card["feature_space"]["sha256"] == load_feature_space(SPACES / "clip-vit").sha256
