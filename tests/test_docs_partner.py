"""The partner's page: its blocks run as they stand, on NumPy in place of PyTorch, and see what JAX sees."""

import re
import stat
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from exchange_examples import NAMES, SIDES, make_noise, make_splits, protected

from ugejax.authorized import (
    FORMS,
    Made,
    build_authorized,
    default_step,
    draw_master,
    new_key,
    record_release,
    seen,
    write_key,
)
from ugejax.authorized.view import IdentityView
from ugejax.cli import main
from ugejax.data import Source, load
from ugejax.errors import UserError
from ugejax.exchange import EXCHANGE_FORMS, Exported
from ugejax.exchange.view_file import view_arrays
from ugejax.release import write_release
from ugejax.training import default_recipe

PAGE = (Path(__file__).parent.parent / "docs" / "partner.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHAPE, SALT = (8, 12, 3), bytes(range(16))


class Tensor(np.ndarray):
    """An array with the names that PyTorch has for what NumPy does."""

    def permute(self, *axes: int) -> "Tensor":
        return self.transpose(axes)

    def to(self, device: str) -> "Tensor":
        return self

    def long(self) -> "Tensor":
        return self.astype(np.int64)


def load_file(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read by the package."""
    return {name: array.view(Tensor) for name, array in safetensors.numpy.load_file(path).items()}


class Module:
    """A module that computes, and no more."""

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        setattr(self, name, tensor)


@pytest.fixture
def pytorch(monkeypatch):
    """NumPy where the blocks import PyTorch and safetensors."""
    torch = types.SimpleNamespace(
        nn=types.SimpleNamespace(Module=Module),
        utils=types.SimpleNamespace(data=types.SimpleNamespace(Dataset=object)),
        arange=lambda n, device: np.arange(n).view(Tensor),
        stack=lambda arrays, axis: np.stack(arrays, axis).view(Tensor),
        from_numpy=lambda array: array.view(Tensor),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "safetensors.torch", types.SimpleNamespace(load_file=load_file))


def defined(name: str) -> type:
    (block,) = [block for block in BLOCKS if f"class {name}(" in block]
    namespace: dict = {}
    exec(block, namespace)
    return namespace[name]


def make_key(folder: Path, form: str):
    key = new_key(
        draw_master(1), form=form, network="mlp", image_shape=SHAPE, num_classes=3, step=default_step(form, 8 / 255),
        recipe=default_recipe("mlp"), from_seed=True,
    )  # fmt: skip
    network = build_authorized(key).of_release(SALT)
    write_key(folder, key, network.arrays)
    record_release(folder, Made("0" * 64, SALT.hex(), "R"))
    return network.view


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.exact])
def test_the_modules_see_what_jax_sees(form, pytorch, tmp_path, capsys):
    view, out = make_key(tmp_path / "K", form), tmp_path / "view.safetensors"
    assert main(["export-key", str(tmp_path / "K"), "--out", str(out)]) == 0
    assert "keep it as private as the key" in capsys.readouterr().out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert f'"form": "{form}"'.encode() in out.read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE)).astype(np.uint8)
    module = defined("KeyedDither" if form == "keyed-dither" else "KeyedProjection")(str(out))
    found = module.forward((images / np.float32(255)).transpose(0, 3, 1, 2).view(Tensor)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, seen(view, images), atol=1e-5)
    # The images are not seen as they are.
    assert np.abs(found - images / 255).max() > 0.01


def test_a_key_is_not_exported_twice_nor_into_a_release(tmp_path, capsys):
    make_key(tmp_path / "K", "keyed-dither")
    (tmp_path / "R").mkdir()
    for name in ("card.json", "manifest.csv"):
        (tmp_path / "R" / name).write_text("{}")
    for out, says in (("R/view", "lies in a release"), ("K", "--out names an existing")):
        assert main(["export-key", str(tmp_path / "K"), "--out", str(tmp_path / out)]) == 2
        assert says in capsys.readouterr().err
    assert main(["export-key", str(tmp_path / "R"), "--out", str(tmp_path / "x")]) == 2
    assert "holds no key.json" in capsys.readouterr().err
    with pytest.raises(UserError, match="no secret view"):
        view_arrays(IdentityView())


@pytest.fixture
def release(tmp_path, monkeypatch) -> np.ndarray:
    """The images of a release, and of its export for Hugging Face, in the current folder."""
    monkeypatch.chdir(tmp_path)
    splits = make_splits()
    images = protected(splits, make_noise(12))
    write_release(
        "release", images=images, labels=splits.train.labels, class_names=NAMES, originals=splits.train.images, card={}
    )
    EXCHANGE_FORMS["hf"].write(Path("release-hf"), Exported(images, splits.train.labels, NAMES, None))
    return images


def test_the_card_for_hugging_face_names_the_classes(release):
    card = Path("release-hf/README.md").read_text()
    assert card.startswith("---\nconfigs:\n")
    assert re.findall(r"^ {10}'(\d)': \"(.*)\"$", card, re.MULTILINE) == [(str(i), n) for i, n in enumerate(NAMES)]


def test_the_data_set_for_pytorch(release, pytorch):
    data = defined("Release")("release")
    assert len(data) == 12
    image, label = data[4]
    assert (image.shape, label) == (SIDES, 1)
    np.testing.assert_array_equal(np.rint(255 * image), release[4].transpose(2, 0, 1))


def test_the_builder_for_tfds(release):
    defined("ProtectedSet")
    train = load(Source("protected_set", data_dir="tfds")).train
    # TFDS shuffles what it stores.
    assert {i.tobytes() for i in train.images} == {i.tobytes() for i in release}
    assert train.class_names == NAMES
    by_image = {image.tobytes(): label for image, label in zip(release, np.arange(12) % 3, strict=True)}
    assert [by_image[image.tobytes()] for image in train.images] == train.labels.tolist()
