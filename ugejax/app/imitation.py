"""The protection that a release's card describes, for who makes releases of his own images under keys of his own."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ugejax.app.protection import Protection, method_of, run_digest
from ugejax.authorized import draw_authorized, new_key
from ugejax.baselines import BASELINES
from ugejax.data.stream import open_stream
from ugejax.evaluation.own_release import Imitation
from ugejax.training import default_recipe


def imitation_of(card: Mapping[str, Any], num_classes: int) -> Imitation | None:
    """The protection that a release's card describes, under another key; None where it tells of no method known here.

    What a card tells only the digest of is left out: a feature space, and terms of the loss beside the method's. Of
    several keys' forms it takes the first's.
    """
    name, settings = str(card.get("method")), _with_tuples(card.get("settings", {}))
    if name in BASELINES:
        method = BASELINES[name]

        def by_baseline(images: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
            return method.protect(
                jax.random.fold_in(jax.random.key(1), number), images, labels, num_classes,
                eps=None if method.eps is None else card["eps"], settings=type(method.settings)(**settings),
            )  # fmt: skip

        return by_baseline
    if name != "uge" or "authorized" not in card:
        return None
    form = card["authorized"]

    def by_key(images: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
        method = method_of([], **settings)
        key = new_key(
            f"own {number}".encode(), form=form["form"], network=form["network"], image_shape=images.shape[1:],
            num_classes=num_classes, step=form["step"], recipe=default_recipe(form["network"]), from_seed=True,
        )  # fmt: skip
        stream = open_stream("own images", lambda indices: images[indices], np.arange(len(images)))
        network = draw_authorized(key).of_release(key.release_salt(run_digest(method, [key], stream, labels)))
        with tempfile.TemporaryDirectory() as folder:
            return Protection.by(key, network, method).run(images, labels, Path(folder))

    return by_key


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before JSON made lists of their tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
