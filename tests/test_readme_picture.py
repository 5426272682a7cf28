"""The picture of README is made of a source's images, their releases and the differences."""

import numpy as np
from PIL import Image

from experiments import readme_picture


def test_the_picture_has_an_image_a_class_in_three_rows(monkeypatch, tmp_path):
    labels = np.arange(110) % 5
    images = np.random.default_rng(0).integers(0, 256, (110, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "toy.npz", data=images, targets=labels, class_names=np.array(readme_picture.CLASSES))
    drawn = []
    draw = readme_picture.draw
    monkeypatch.setattr(readme_picture, "draw", lambda *given: (drawn.append(given), draw(*given)))
    out = tmp_path / "picture.png"
    monkeypatch.setattr("sys.argv", ["picture", "--source", str(tmp_path / "toy.npz"), "--out", str(out)])
    assert readme_picture.main() == 0
    ((_, originals, released),) = drawn
    assert originals.shape == released.shape == (5, 8, 8, 3)
    assert 0 < np.abs(released.astype(int) - originals).max() <= readme_picture.LEVELS
    assert Image.open(out).size[0] > 800
