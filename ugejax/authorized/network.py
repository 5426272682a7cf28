"""An authorized network ready to use: view, backbone, theta_0 and which weights train."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.authorized.key import PURPOSES, Key
from ugejax.batches import at_a_time, in_pieces
from ugejax.errors import UserError
from ugejax.networks import build, initial_variables
from ugejax.views import View, find_form
from ugejax.views.legacy import LEGACY_VIEWS


@dataclass(frozen=True)
class AuthorizedNetwork:
    """An authorized network, f(x; theta) = module(view(x); theta).

    Attributes:
        view: the frozen secret part.
        module: the backbone, a flax module.
        variables: theta_0 (and the running statistics that belong to it).
        trains: "all", or "head" where only the classifier trains.
    """

    view: View
    module: Any
    variables: Any = field(repr=False)
    trains: str

    @property
    def arrays(self) -> dict[str, Any]:
        """What the key folder's checkpoint holds: nothing that is of one release."""
        return {"theta_0": self.variables, "view": jax.tree.leaves(self.view.of_release(None))}

    def with_arrays(self, arrays: dict[str, Any]) -> "AuthorizedNetwork":
        """The same network with `arrays` that were kept, of a view that is of no release."""
        view = jax.tree.unflatten(jax.tree.structure(self.view), arrays["view"])
        return replace(self, view=view, variables=arrays["theta_0"])

    @property
    def salt(self) -> bytes | None:
        """Of the release whose images it sees, 16 bytes; None without a release, and where the view uses none."""
        return None if self.view.salt is None else np.asarray(self.view.salt).astype("<u4").tobytes()

    def of_release(self, salt: bytes | None) -> "AuthorizedNetwork":
        """The same network for the images of one release, and for all that are compared with them.

        Args:
            salt: of the release, 16 bytes, see `ugejax.salt_of`; only a view that is `salted` uses one.

        Raises:
            UserError: the view needs one.
        """
        if not self.view.salted:
            return self
        if salt is None:
            raise UserError("card.json: has no salt, without which this key sees nothing; get the release again")
        return replace(self, view=self.view.of_release(salt))


def split_weights(params: Any, trains: str) -> tuple[Any, Any]:
    """The weights of a network that train, and those that are frozen; `trains` as in `AuthorizedNetwork`."""
    if trains == "all":
        return params, {}
    return {"head": params["head"]}, {name: value for name, value in params.items() if name != "head"}


def draw_authorized(key: Key) -> AuthorizedNetwork:
    """The authorized network of a key, drawn afresh, for no release yet: see `AuthorizedNetwork.of_release`.

    Raises:
        UserError: the form is unknown, or the images do not suit it.
    """
    form, module = find_form(key.form), build(key.network, key.num_classes)
    if key.version == 1:
        view = LEGACY_VIEWS[key.form](key.prng("view"), key.image_shape, key.step)
    else:
        view = form.view(key.derive("view", 32), key.image_shape, key.step)
    variables = initial_variables(module, key.prng("init"), key.image_shape)
    return AuthorizedNetwork(view, module, variables, form.trains)


_apply = jax.jit(lambda view, x: view.apply(x.astype(jnp.float32) / 255))


def seen(view: View, images: np.ndarray, *, batch_size: int = 1000) -> np.ndarray:
    """What the backbone sees of uint8 images [N, H, W, C]; the images themselves where the view is the identity.

    The view is frozen, so it is applied once to a data set and not once a step.

    Args:
        view: of an authorized network, for the release that the images are of or are compared with.
        images: uint8 [N, H, W, C].
        batch_size: images at a time, at most.

    Returns:
        float32 [N, H, W, C] in [0, 1], or the uint8 images.
    """
    if not view.hides:
        return images
    size = at_a_time(images.shape[1:], most=batch_size)
    pieces = in_pieces(lambda part, _: np.asarray(_apply(view, images[part])), len(images), size)
    return np.concatenate([piece for _, piece in pieces])


def secret_words(key: Key, network: AuthorizedNetwork) -> tuple[list[bytes], list[np.ndarray]]:
    """What must not be found in anything public: strings of at least 8 bytes, and arrays.

    The secret, what encrypts the key's folder, what is derived for each purpose, the view and the frozen weights.
    Weights that train, and what they begin with, follow from a PRNG key.
    """
    keys = [np.asarray(jax.random.key_data(key.prng(purpose))).tobytes() for purpose in PURPOSES]
    derived = [key.derive(label, 32) for label in ("view", "textures")]
    frozen = split_weights(network.variables["params"], network.trains)[1]
    numbers = [np.asarray(leaf) for leaf in jax.tree.leaves((network.arrays["view"], frozen))]
    return [key.secret, key.seal_secret, *keys, *derived], numbers
