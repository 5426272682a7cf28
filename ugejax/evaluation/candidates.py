"""Who trains in an evaluation: the authorized network, hackers by architecture, and hackers with a wrong key."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ugejax.authorized import AuthorizedNetwork, Key, draw_authorized, new_key, seen
from ugejax.countermeasures.hacker_data import to_uint8
from ugejax.errors import UserError
from ugejax.networks import NETWORKS, build, has_batch_norm, initial_variables
from ugejax.networks.weights import Weights, with_weights
from ugejax.registry import split_names, unknown
from ugejax.training import Recipe, default_recipe
from ugejax.views import View

DEFAULT_HACKERS = ("cnn", "cnn-other-init", "cnn-nonorm", "mlp", "res-tiny", "wrong-key")
OTHER_INIT = "-other-init"
# The keys of these follow from their places here, those of other networks from their names, so that figures measured
# with them stay what they are, whatever is registered besides.
_NUMBERED = ("cnn", "cnn-nonorm", "mlp", "res-tiny", "r18", "r20", "r56")
_NUMBERS = {name: number for number, name in enumerate((*_NUMBERED, *(name + OTHER_INIT for name in _NUMBERED)))}


@dataclass(frozen=True, eq=False)
class Candidate:
    """Who trains, and how.

    Attributes:
        role: "authorized", "hacker", "wrong_key" or "distilled".
        network: as the rows name it.
        recipe: how it is trained.
        module: flax network.
        variables: initial variables; None draws them from the key.
        trains: "all" or "head".
        key: PRNG key of the trial.
        view: the secret part that it sees everything through; None for none.
        begins: weights that take the place of those that are drawn; None for none.
    """

    role: str
    network: str
    recipe: Recipe
    module: Any
    variables: Any
    trains: str
    key: jax.Array
    view: View | None = None
    begins: Weights | None = None

    def start(self, image_shape: tuple[int, ...]) -> Any:
        """Initial variables for images of shape (H, W, C); None where the trial draws them from its key."""
        if self.begins is None:
            return self.variables
        drawn = initial_variables(self.module, jax.random.split(self.key)[0], image_shape)  # as the trial would
        return with_weights(drawn, self.begins)

    def sees(self, images: np.ndarray) -> np.ndarray:
        """Images as its network sees them."""
        return images if self.view is None else seen(self.view, to_uint8(images))


def parse_hackers(names: str) -> tuple[str, ...]:
    """A comma-separated list of hackers, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    chosen = split_names(names)
    known = [*NETWORKS, *(name + OTHER_INIT for name in NETWORKS), "wrong-key"]
    for name in chosen:
        if name not in known:
            choices = f"{', '.join(NETWORKS)}, each also with {OTHER_INIT}, and wrong-key"
            raise unknown(name, known, choices=choices, argument="hackers")
    if not chosen:
        raise UserError("names none", argument="hackers")
    return chosen


def authorized(
    key: Key, network: AuthorizedNetwork, *, seed: int, epochs: int | None, augment: tuple[str, ...],
    batch_size: int | None = None,
) -> Candidate:  # fmt: skip
    """The authorized side, which trains by the key's recipe; `epochs` are those without augmentation."""
    recipe = _recipe(key, epochs, augment).at_most(batch_size)
    return Candidate(
        "authorized", key.network, recipe, network.module, network.variables, network.trains,
        jax.random.fold_in(key.prng("training"), seed), network.view,
    )  # fmt: skip


def hackers(
    names: tuple[str, ...], key: Key | None, num_classes: int, *, seed: int, epochs: int | None,
    augment: tuple[str, ...], batch_size: int | None = None, salt: bytes | None = None,
) -> Iterator[Candidate]:  # fmt: skip
    """The hackers of those names; without the key to tell its form, nobody has a wrong one.

    The salt is the release's, which a wrong key takes as the right one does.
    """
    for name in names:
        if name != "wrong-key":
            yield hacker(name, num_classes, seed=seed, epochs=epochs, augment=augment, batch_size=batch_size)
        elif key is not None:
            wrong = _wrong_key(key, seed)
            network = draw_authorized(wrong).of_release(salt)
            recipe = _recipe(wrong, epochs, augment).at_most(batch_size)
            yield Candidate(
                "wrong_key", wrong.network, recipe, network.module, network.variables, network.trains,
                wrong.prng("training"), network.view,
            )  # fmt: skip


def with_batch_norm(names: tuple[str, ...], key: Key | None) -> list[str]:
    """Those of the hackers whose network mixes the examples of a batch."""
    networks = {name: name.removesuffix(OTHER_INIT) for name in names if name != "wrong-key"}
    if "wrong-key" in names and key is not None:
        networks["wrong-key"] = key.network
    return [name for name, network in networks.items() if has_batch_norm(network)]


def hacker(
    name: str, num_classes: int, *, seed: int, epochs: int | None, augment: tuple[str, ...],
    batch_size: int | None = None,
) -> Candidate:  # fmt: skip
    """A network of that name, perhaps of another initialisation, on images as they are."""
    short = name.removesuffix(OTHER_INIT)
    number = _NUMBERS.get(name, zlib.crc32(name.encode()))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), number)
    recipe = default_recipe(short, epochs=epochs, augment=augment).at_most(batch_size)
    return Candidate("hacker", name, recipe, build(short, num_classes), None, "all", key)


def _recipe(key: Key, epochs: int | None, augment: tuple[str, ...]) -> Recipe:
    """The key's recipe, with the epochs and the augmentation of the evaluation."""
    target = default_recipe(key.network, epochs=epochs or key.recipe.epochs, augment=augment)
    return replace(key.recipe, epochs=target.epochs, augment=augment)


def _wrong_key(key: Key, seed: int) -> Key:
    """A key of the right family with a secret of its own, as a hacker would draw it who knows all but the secret."""
    architecture = {name: value for name, value in key.__dict__.items() if name != "secret"}
    return new_key(f"hacker {seed}".encode(), **architecture)
