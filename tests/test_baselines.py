"""All baselines alike: deterministic, within the budget, dependent on key and labels, named and settable."""

import dataclasses

import jax
import numpy as np
import pytest
from baselines_examples import BATCH, CLASSES, N, digits

from ugejax.baselines import BASELINES, BaselineMethod, assignments_of, change_settings
from ugejax.baselines.method import NoSettings
from ugejax.baselines.tap import TapSettings
from ugejax.errors import UserError

SMALL = {
    "surrogate": "mlp", "rounds": 2, "epochs": 4, "train_steps": 3, "batch_size": BATCH, "pgd_steps": 2,
    "checkpoints": 2, "attack_steps": 2, "stop_error": 1e-9, "stop_accuracy": 2.0, "time": 16, "block": N,
    "validation": N // 2, "step_size": 0.3, "trials": 1, "pool": 1,
    "particles": 3, "moves": 2,
}  # fmt: skip


def toy() -> tuple[np.ndarray, np.ndarray]:
    return digits(darkest=0, brightest=255)  # black and white among the values


def small(name: str):
    """The baseline's settings, changed for a run of seconds."""
    settings = BASELINES[name].settings
    known = {field.name for field in dataclasses.fields(settings)}
    changes = {field: value for field, value in SMALL.items() if field in known}
    if name == "lsp":
        changes["block"] = 2
    return dataclasses.replace(settings, **changes)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_follows_from_its_arguments_and_keeps_its_budget(name):
    images, labels = toy()
    before, method, reports = images.copy(), BASELINES[name], []

    def run(seed: int, labels: np.ndarray, report=lambda *_: None) -> np.ndarray:
        return method.protect(jax.random.key(seed), images, labels, CLASSES, settings=small(name), report=report)

    released = run(0, labels, lambda *given: reports.append(given))
    assert released.dtype == np.uint8
    assert released.shape == images.shape
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(run(0, labels), released)
    assert (run(1, labels) != released).any() == (name != "ops")  # which searches, and draws nothing
    assert (run(0, labels[::-1]) != released).any() == (name != "random")

    difference = (released.astype(float) - images) / 255
    assert (difference != 0).any()
    eps = method.default_eps((8, 8, 1))
    if method.norm == "linf":
        assert np.abs(difference).max() <= eps * (1 + 1e-9)
    elif method.norm == "l2":
        norms = np.sqrt((difference**2).sum(axis=(1, 2, 3)))
        assert norms.max() <= eps * (1 + 1e-6)
    assert all(0 < done <= of for _, done, of, _ in reports)
    assert all(np.isfinite(value) for *_, figures in reports for value in figures.values())
    assert bool(reports) or not method.surrogates


def test_radii_are_the_published_ones():
    cifar = (32, 32, 3)
    assert BASELINES["lsp"].default_eps(cifar) == pytest.approx(1.304, abs=1e-3)  # 6/255 on each of 3,072 values
    assert BASELINES["ar"].default_eps(cifar) == 1
    assert BASELINES["ar"].default_eps((96, 96, 3)) == 3
    assert BASELINES["tap"].default_eps((96, 96, 3)) == 8 / 255
    assert BASELINES["sep"].default_eps(cifar) == 2 / 255
    assert BASELINES["ops"].default_eps(cifar) is None


@pytest.mark.parametrize("eps", [1 / 255, 20.9 / 255])
def test_another_radius_is_kept_and_used(eps):
    images, labels = toy()
    images = np.clip(images, 30, 220)
    for name in ("random", "random-class"):
        released = BASELINES[name].protect(jax.random.key(0), images, labels, CLASSES, eps=eps)
        assert np.abs(released.astype(int) - images).max() == int(255 * eps)


def test_arguments_are_checked():
    images, labels = toy()
    key, method = jax.random.key(0), BASELINES["random"]
    with pytest.raises(UserError, match="`eps`: .*not bound by a budget"):
        BASELINES["ops"].protect(key, images, labels, CLASSES, eps=0.1)
    with pytest.raises(UserError, match="`eps` 8.0: "):
        method.protect(key, images, labels, CLASSES, eps=8.0)
    with pytest.raises(TypeError, match="uint8"):
        method.protect(key, images / 255, labels, CLASSES)
    with pytest.raises(TypeError, match="NoSettings"):
        method.protect(key, images, labels, CLASSES, settings=TapSettings())
    with pytest.raises(ValueError, match="shape|must be"):
        method.protect(key, images, labels[1:], CLASSES)
    with pytest.raises(ValueError, match="labels 0 to 9"):
        method.protect(key, images, labels, 2)


def test_names_are_looked_up():
    assert BASELINES.find("tap", "method") is BASELINES["tap"]
    with pytest.raises(UserError, match="`method`: unknown 'em-clas': did you mean 'em-class'"):
        BASELINES.find("em-clas", "method")


@pytest.mark.parametrize("name", BASELINES)
def test_settings_are_told_as_they_are_given(name):
    settings = BASELINES[name].settings
    untransformed = {field.name: () for field in dataclasses.fields(settings) if field.name == "transforms"}
    for wanted in (settings, dataclasses.replace(settings, **untransformed)):
        assert change_settings(settings, assignments_of(wanted), "settings") == wanted


def test_settings_are_changed_by_text():
    changed = change_settings(
        TapSettings(), ["surrogate=mlp", "epochs = 3", "step_size=1e-2", "transforms=none"], "settings"
    )
    assert changed == TapSettings(surrogate="mlp", epochs=3, step_size=0.01, transforms=())
    assert change_settings(TapSettings(), [], "settings") == TapSettings()
    for text, message in {
        "epoch=3": "epoch=3: not name=value of a setting; choose among surrogate, epochs",
        "epochs": "epochs: not name=value",
        "epochs=0": "`settings` epochs: '0' is not a whole number of at least 1",
        "epochs=2.5": "not a whole number",
        "step_size=nan": "'nan' is not a number above 0",
        "transforms=blurr": "`settings` transforms: unknown 'blurr'",
    }.items():
        with pytest.raises(UserError, match=message):
            change_settings(TapSettings(), [text], "settings")
    with pytest.raises(UserError, match="this method has no settings"):
        change_settings(NoSettings(), ["epochs=1"], "settings")


def test_a_new_baseline_is_one_function_and_one_line(monkeypatch):
    def negative(key, images, labels, num_classes, *, eps, settings, report):
        return 255 - images

    line = BaselineMethod(
        run=negative, settings=NoSettings(), summary="negatives", norm="none", eps=None, surrogates=False
    )
    monkeypatch.setitem(BASELINES, "negative", line)
    images, labels = toy()
    released = BASELINES.find("negative", "method").protect(jax.random.key(0), images, labels, CLASSES)
    np.testing.assert_array_equal(released, 255 - images)
