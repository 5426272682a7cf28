"""Float noise in a PyTorch file, one an image or one a class: EMN (Unlearnable-Examples).

Its own loader cuts negative noise off before it adds it; here it is added whole.
"""

from pathlib import Path

import numpy as np

from ugejax.app.exchange.files import sha256
from ugejax.app.exchange.form import Exported, Form, Imported, most_values, of_train
from ugejax.app.exchange.noise import add_noise, class_wise, grey_levels
from ugejax.app.exchange.torch_file import read_tensor, write_tensor
from ugejax.app.files import synced
from ugejax.data import Splits
from ugejax.errors import UserError


def _read(place: str, splits: Splits) -> Imported:
    noise = _noise(place, splits)
    if len(noise) == len(splits.train.class_names) not in (splits.n_available, len(splits.train.labels)):
        raise UserError(f"{place}: one noise a class, not one an image; import it as emn-class")
    return _imported(of_train(noise, splits, place), place, splits)


def _read_class(place: str, splits: Splits) -> Imported:
    noise, n_classes = _noise(place, splits), len(splits.train.class_names)
    if len(noise) != n_classes:
        raise UserError(f"{place}: {len(noise)} noises for {n_classes} classes; one an image is imported as emn")
    return _imported(noise[splits.train.labels], place, splits)


def _noise(place: str, splits: Splits) -> np.ndarray:
    noise = read_tensor(Path(place), most=most_values(splits))
    if noise.ndim != 4:
        raise UserError(f"{place}: a tensor of {list(noise.shape)}; noise is [N, C, H, W]")
    return noise


def _imported(noise: np.ndarray, place: str, splits: Splits) -> Imported:
    return Imported(add_noise(noise, splits, place), None, {Path(place).name: sha256(Path(place))})


def _levels(exported: Exported) -> np.ndarray:
    assert exported.originals is not None
    return grey_levels(exported.images, exported.originals)


def _write(path: Path, exported: Exported) -> None:
    with synced(path) as file:
        write_tensor(file, _levels(exported) / np.float32(255))


def _write_class(path: Path, exported: Exported) -> None:
    levels = _levels(exported)
    noise = class_wise(levels, exported.images, exported.labels, len(exported.class_names))
    with synced(path) as file:
        write_tensor(file, noise / np.float32(255))


EMN = Form(_read, _write, "PyTorch file of float noise [N, C, H, W] in units of [0, 1]: EMN", noise=True)
EMN_CLASS = Form(_read_class, _write_class, "the same with one noise a class, [K, C, H, W]", noise=True)
