"""The protection of arrays behind the two interfaces that people know: scikit-learn's transformers and ART's `poison`.

As `ugejax protect` without files: the same images, labels, settings and seed give the same released images.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ugejax.app.keys import build_authorized
from ugejax.app.protection import Protection, check_budget, method_of, run_digest
from ugejax.authorized import AuthorizedNetwork, Key, draw_master, new_key
from ugejax.constraints.budget import amplitude
from ugejax.data import Dataset, check_dataset
from ugejax.data.arrays import class_indices, to_uint8
from ugejax.data.stream import open_stream
from ugejax.errors import UserError
from ugejax.training import default_recipe
from ugejax.views import DEFAULT_FORM, default_step


class Protector(TransformerMixin, BaseEstimator):
    """Makes a labelled image set learnable for the holder of a key only.

    Images are [N, H, W] or [N, H, W, 1 or 3], uint8, or float in [0, 1]; released images come in the same type and
    shape, on the grid of 8 bits. Labels are of any kind that NumPy sorts, or one-hot.

    Attributes:
        key_: the key. `write_key(folder, key_, network_.arrays)` writes it for the partner; it is never pickled, and
            so neither is a fitted protector.
        salt_: of the released images, public; who reads the key from a folder gives it to `of_release`.
        network_: the authorized network for them.
        classes_: the labels in the order of the network's outputs.
        released_: the released images, uint8 [N, H, W, C].
    """

    key_: Key
    salt_: bytes
    network_: AuthorizedNetwork
    classes_: np.ndarray
    released_: np.ndarray

    def __init__(
        self,
        *,
        strength: str = "standard",
        eps: float | None = None,
        authorized: str = DEFAULT_FORM,
        network: str = "cnn",
        settings: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ):
        """Set the parameters; they are checked by `fit`.

        Args:
            strength: "standard", 8/255, or "strong", 16/255 with patterns all over the image.
            eps: budget in units of [0, 1]; None for that of the strength.
            authorized: authorized form, see `ugejax.views.FORMS`.
            network: backbone of the authorized network, see `ugejax.networks.NETWORKS`.
            settings: further fields of `ugejax.uge.Method`; they go before strength and budget.
            seed: derive the key from it, reproducible and hence guessable; None takes the system's entropy.
        """
        self.strength = strength
        self.eps = eps
        self.authorized = authorized
        self.network = network
        self.settings = settings
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        """Draw a key and protect images with it.

        Args:
            x: originals.
            y: labels [N], or one-hot [N, K].

        Raises:
            UserError: images, labels or parameters are not fit for use.
        """
        images = to_uint8("x", np.asarray(x))
        self.classes_, labels = np.unique(class_indices(np.asarray(y)), return_inverse=True)
        train = Dataset(images, labels.astype(np.int32), tuple(str(label) for label in self.classes_))
        check_dataset(train, "x and y")
        given = {} if self.eps is None else {"eps": self.eps}
        method = method_of([self.authorized], **{"strength": self.strength, **given, **(self.settings or {})})
        check_budget(method.eps, method.norm)
        size = amplitude(method.eps, method.norm, images.shape[1:])
        self.key_ = new_key(
            draw_master(self.seed), form=self.authorized, network=self.network, image_shape=images.shape[1:],
            num_classes=len(self.classes_), step=default_step(self.authorized, size),
            recipe=default_recipe(self.network), from_seed=self.seed is not None,
        )  # fmt: skip
        stream = open_stream("x", lambda indices: images[indices], np.arange(len(images)))
        self.salt_ = self.key_.release_salt(run_digest(method, [self.key_], stream, train.labels))
        self.network_ = build_authorized(self.key_).of_release(self.salt_)
        self._digest = _digest(images)
        with tempfile.TemporaryDirectory() as folder:
            self.released_ = Protection.by(self.key_, self.network_, method).run(images, train.labels, Path(folder))
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """The released form of the images that the protector was fitted to.

        Args:
            x: those images, in the same order: a perturbation goes by an image's label, which others do not have.

        Raises:
            UserError: they are others.
        """
        check_is_fitted(self)
        x = np.asarray(x)
        if _digest(to_uint8("x", x)) != self._digest:
            raise UserError("transform: takes the images that were given to fit; fit to these with their labels")
        released = self.released_ if x.dtype == np.uint8 else (self.released_ / 255).astype(x.dtype)
        return released.reshape(x.shape)

    def poison(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Protect images as ART's poisoning attacks do: (x, y) -> (x_p, y_p), labels as they were."""
        return self.fit(x, y).transform(x), y


def _digest(images: np.ndarray) -> bytes:
    """By which the originals are known again without being kept."""
    return hashlib.sha256(repr(images.shape).encode() + images.tobytes()).digest()
