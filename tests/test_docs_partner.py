"""What the partner's page shows and `export-key` writes: run on NumPy in place of PyTorch, it sees what JAX sees."""

import re
import stat
from pathlib import Path

import numpy as np
import pytest
from exchange_examples import NAMES, SIDES, make_noise, make_splits, protected
from pytorch_examples import in_place_of_pytorch, load_file, seen_by_module

from ugejax.app.cli import main
from ugejax.app.exchange import EXCHANGE_FORMS, Exported
from ugejax.app.keys import Made, build_authorized, record_release, write_key
from ugejax.app.release import write_release
from ugejax.authorized import draw_master, new_key, seen
from ugejax.authorized.key import VERSION
from ugejax.data import Source, load
from ugejax.training import default_recipe
from ugejax.views import FORMS, default_step

PAGE = (Path(__file__).parent.parent / "docs" / "partner.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHAPE, SALT = (8, 12, 3), bytes(range(16))


@pytest.fixture
def pytorch(monkeypatch):
    in_place_of_pytorch(monkeypatch)


def defined(name: str) -> type:
    (block,) = [block for block in BLOCKS if f"class {name}(" in block]
    namespace: dict = {}
    exec(block, namespace)
    return namespace[name]


def make_key(folder: Path, form: str, version: int = VERSION):
    key = new_key(
        draw_master(1), form=form, network="mlp", image_shape=SHAPE, num_classes=3, step=default_step(form, 8 / 255),
        recipe=default_recipe("mlp"), from_seed=True, version=version,
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
    assert stat.S_IMODE(out.with_suffix(".py").stat().st_mode) == 0o600
    found = seen_by_module(out, images)
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
    make_key(tmp_path / "P", "plain")
    assert main(["export-key", str(tmp_path / "P"), "--out", str(tmp_path / "x")]) == 2
    assert "no secret view" in capsys.readouterr().err


def test_a_module_that_is_there_stays_and_another_file_is_not_written_over(tmp_path, capsys):
    make_key(tmp_path / "K", "keyed-linear")
    out, module = tmp_path / "o" / "view.safetensors", tmp_path / "o" / "view.py"
    command = ["export-key", str(tmp_path / "K"), "--out", str(out)]
    assert main(command) == 0
    written = module.read_bytes()
    out.unlink()
    assert main(command) == 0 and module.read_bytes() == written
    out.unlink()
    module.write_text("mine")
    assert main(command) == 2
    assert "view.py: --out names an existing" in capsys.readouterr().err
    assert [path.name for path in out.parent.iterdir()] == ["view.py"] and module.read_text() == "mine"
    assert main([*command[:-1], str(tmp_path / "x.py")]) == 2
    assert "ends with .safetensors" in capsys.readouterr().err


def test_of_a_key_of_ugejax_0_1_the_dither_is_exported_without_a_module(tmp_path):
    make_key(tmp_path / "K", "keyed-dither", version=1)
    out = tmp_path / "view.safetensors"
    assert main(["export-key", str(tmp_path / "K"), "--out", str(out)]) == 0
    assert set(load_file(str(out))) == {"secret", "anchors", "step"}
    assert not out.with_suffix(".py").exists()


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
