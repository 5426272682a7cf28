"""What an arena compares, parsed from the user's arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ugejax.baselines import BASELINES, change_settings
from ugejax.data import Source
from ugejax.errors import UserError
from ugejax.networks import NETWORKS
from ugejax.registry import split_names


@dataclass(frozen=True)
class Grid:
    """A grid of trials on one source.

    A seed draws the subset of the source, the key or the randomness of every method, and that of every training; so all
    methods protect the same images, and share their clean controls.

    Attributes:
        source: where the images come from; its own seed is not used.
        methods: "uge", or names in `ugejax.baselines.BASELINES`.
        networks: names in `ugejax.networks.NETWORKS`.
        countermeasures: names for `ugejax.countermeasures.countermeasure_of`.
        seeds: how many: 0 .. seeds - 1.
        authorized_network: backbone of UGE's authorized network.
        eps: radius for the methods bound in L-infinity, in units of [0, 1]; None for each one's own.
        epochs: of a training without augmentation; None for each network's own.
        settings: for some of the baselines, assignments such as "rounds=20".
    """

    source: Source
    methods: tuple[str, ...]
    networks: tuple[str, ...]
    countermeasures: tuple[str, ...]
    seeds: int = 1
    authorized_network: str = "cnn"
    eps: float | None = None
    epochs: int | None = None
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def eps_of(self, method: str) -> float | None:
        """The radius to ask of a method: a radius in L-infinity says nothing to those of another norm."""
        return self.eps if method == "uge" or BASELINES[method].norm == "linf" else None

    def to_json(self) -> dict[str, Any]:
        """What all rows of an arena's folder have in common; the rest of a grid may grow."""
        source = {name: value for name, value in self.source.to_json().items() if name != "seed"}
        return {
            "source": source, "eps": self.eps, "epochs": self.epochs, "authorized_network": self.authorized_network
        }  # fmt: skip


def parse_methods(names: str) -> tuple[str, ...]:
    """A comma-separated list of methods, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    chosen = _split(names, "methods")
    for name in chosen:
        if name != "uge":
            BASELINES.find(name, "methods")
    return chosen


def parse_networks(names: str) -> tuple[str, ...]:
    """A comma-separated list of networks, checked.

    Raises:
        UserError: one is unknown, or there is none.
    """
    return tuple(check_network(name, "networks") for name in _split(names, "networks"))


def check_network(name: str, argument: str) -> str:
    """The name of a network that the user gave for the argument of that name.

    Raises:
        UserError: there is no such network.
    """
    try:
        NETWORKS.find(name)
    except UserError as error:
        raise UserError(str(error), argument=argument) from error
    return name


def parse_settings(texts: Sequence[str], methods: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Texts such as "em.rounds=20" as the assignments of each baseline, checked.

    Raises:
        UserError: a text does not begin with one of the methods, or the baseline has no such setting.
    """
    settings: dict[str, tuple[str, ...]] = {}
    for text in texts:
        method, _, assignment = text.partition(".")
        if method not in methods or method == "uge":
            raise UserError(
                "write BASELINE.NAME=VALUE, of a baseline that `methods` names", argument="settings", value=text
            )
        settings[method] = (*settings.get(method, ()), assignment)
        change_settings(BASELINES[method].settings, settings[method], "settings", prefix=f"{method}.")
    return settings


def _split(names: str, argument: str) -> tuple[str, ...]:
    chosen = split_names(names)
    if not chosen:
        raise UserError("names none", argument=argument)
    return chosen
