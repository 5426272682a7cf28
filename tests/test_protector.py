"""The protector: what `ugejax protect` makes, through the interfaces of scikit-learn and ART."""

import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from ugejax.app.cli import main
from ugejax.app.cli.arguments import build_parser
from ugejax.app.keys import build_authorized, read_key, write_key
from ugejax.app.protector import Protector
from ugejax.authorized import seen
from ugejax.errors import UserError
from ugejax.perturbations.method import CHOICES

PARAMETERS = {"eps": 32 / 255, "network": "mlp", "settings": {"period": 4}, "seed": 3}
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype(np.uint8)
Y = np.arange(12) % 3


@pytest.fixture(scope="module")
def fitted() -> Protector:
    return Protector(**PARAMETERS).fit(X, Y)


def test_it_releases_what_the_command_releases(fitted, tmp_path):
    np.savez(tmp_path / "x.npz", data=X, targets=Y)
    out, key = str(tmp_path / "R"), str(tmp_path / "K")
    command = ["protect", str(tmp_path / "x.npz"), "--out", out, "--key", key, "--eps", "32/255", "--network", "mlp"]
    assert main([*command, "--period", "4", "--seed", "3"]) == 0
    with np.load(tmp_path / "R" / "data.npz") as data:
        np.testing.assert_array_equal(fitted.transform(X), data["data"])
    assert fitted.key_ == read_key(tmp_path / "K")


def test_its_strength_is_that_of_the_command(tmp_path):
    np.savez(tmp_path / "x.npz", data=X, targets=Y)
    command = ["protect", str(tmp_path / "x.npz"), "--out", str(tmp_path / "R"), "--key", str(tmp_path / "K")]
    assert main([*command, "--strength", "strong", "--network", "mlp", "--seed", "3"]) == 0
    strong = Protector(strength="strong", network="mlp", seed=3).fit(X, Y)
    assert strong.key_ == read_key(tmp_path / "K") and strong.key_.step == 32
    card = json.loads((tmp_path / "R" / "card.json").read_text())
    assert (card["eps"], card["settings"]["parametrisation"]) == (16 / 255, "layered")
    assert any("Beside and over it" in limit for limit in card["limits"])
    with np.load(tmp_path / "R" / "data.npz") as data:
        np.testing.assert_array_equal(strong.released_, data["data"])
    distance = np.abs(strong.released_.astype(int) - X)
    assert 8 < distance.max() <= 16


def test_its_parameters_are_those_of_an_estimator():
    protector = Protector(**PARAMETERS)
    assert protector.get_params() == {"strength": "standard", "authorized": "keyed-dither", **PARAMETERS}
    assert clone(protector).get_params() == protector.get_params()
    assert protector.set_params(eps=0.1).eps == 0.1
    with pytest.raises(NotFittedError):
        protector.transform(X)


def test_a_clone_and_a_pipeline_fit_again(fitted):
    np.testing.assert_array_equal(make_pipeline(clone(fitted)).fit_transform(X, Y), fitted.released_)


def test_types_and_labels_come_back_as_they_went_in(fitted):
    text = np.array(["cat", "cow", "dog"])[Y]
    for x, y in ((X / np.float32(255), np.eye(3)[Y]), (X[..., 0], text)):
        protector = Protector(**PARAMETERS)
        x_p, y_p = protector.poison(x, y)
        assert (x_p.dtype, x_p.shape, y_p is y) == (x.dtype, x.shape, True)
        levels = x_p if x.dtype == np.uint8 else 255 * x_p
        np.testing.assert_allclose(levels.reshape(X.shape), fitted.released_, atol=1e-4)
        assert protector.classes_.tolist() == np.unique(text if y is text else Y).tolist()


def test_the_partner_gets_the_key_as_a_folder(fitted, tmp_path):
    write_key(tmp_path / "K", fitted.key_, fitted.network_.arrays)
    view = build_authorized(read_key(tmp_path / "K"), tmp_path / "K").of_release(fitted.salt_).view
    np.testing.assert_array_equal(seen(view, fitted.released_), seen(view, X))


def test_without_a_seed_no_two_keys_are_alike():
    first, second = (Protector(network="mlp", settings={"period": 4}).fit(X, Y) for _ in range(2))
    assert first.key_.secret != second.key_.secret
    assert not first.key_.from_seed


@pytest.mark.parametrize(
    ("x", "y", "changes", "says"),
    [
        (X.astype(int), Y, {}, "x: images must be uint8, or float in [0, 1], but are int64"),
        (X, Y[:5], {}, "x and y: 12 images, but labels of shape [5]"),
        (X, np.zeros(12, int), {}, "x and y: only one class ('0')"),
        (X, Y, {"eps": 8}, "`eps` 8: is not in (0, 1]"),
        (X, Y, {"eps": -8 / 255}, "is not in (0, 1]"),
        (X, Y, {"authorized": "keyed"}, "unknown authorized form 'keyed'"),
        (X, Y, {"network": "cnm"}, "did you mean 'cnn'"),
        (X, Y, {"settings": {"norm": "Linf"}}, "norm must be one of linf, l2, not 'Linf'"),
        (X, Y, {"settings": {"begin": "stripes"}}, "unknown 'begin'"),
    ],
)
def test_what_cannot_be_protected(x, y, changes, says):
    with pytest.raises(UserError) as caught:
        Protector(**{**PARAMETERS, **changes}).fit(x, y)
    assert says in str(caught.value)


def test_other_images_have_no_perturbation(fitted):
    with pytest.raises(UserError, match="transform: takes the images that were given to fit"):
        fitted.transform(X[::-1])


def test_a_fitted_protector_is_never_pickled(fitted):
    pickle.loads(pickle.dumps(clone(fitted)))
    with pytest.raises(TypeError, match="a key is never pickled"):
        pickle.dumps(fitted)
    assert fitted.key_.secret.hex() not in repr(fitted.__dict__)


@pytest.mark.parametrize("setting", CHOICES)
def test_the_command_line_has_the_same_choices(setting, capsys):
    option = f"--{setting.replace('_', '-')}"
    for value in CHOICES[setting]:
        arguments = build_parser().parse_args(["protect", "digits", "--out", "R", option, value])
        assert getattr(arguments, setting) == value
    with pytest.raises(SystemExit):
        build_parser().parse_args(["protect", "digits", "--out", "R", option, "none of them"])
    offered = capsys.readouterr().err.replace("'", "").split("choose from ")[1].split(")")[0]
    assert tuple(offered.split(", ")) == CHOICES[setting]
