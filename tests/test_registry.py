"""Entries by name: what is found, what a name that is unknown is answered with, and entries from outside."""

import pickle

import pytest

from ugejax.app.exchange import EXCHANGE_FORMS
from ugejax.baselines import BASELINES
from ugejax.countermeasures import COUNTERMEASURES, Countermeasure, countermeasure_of, parse_countermeasures
from ugejax.errors import UserError
from ugejax.evaluation import DISTILLATIONS
from ugejax.networks import NETWORKS
from ugejax.registry import Registry, split_names
from ugejax.transforms import TRANSFORMS

REGISTRIES = (BASELINES, COUNTERMEASURES, DISTILLATIONS, EXCHANGE_FORMS, NETWORKS, TRANSFORMS)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_registry_finds_its_entries_and_names_the_closest_and_all(registry):
    for name, entry in registry.items():
        assert registry.find(name) is entry
        with pytest.raises(UserError) as caught:
            registry.find(f"{name}_")
        message = str(caught.value)
        assert message.startswith(f"unknown {registry.kind} '{name}_': did you mean ")
        assert message.endswith(f"choose one of {', '.join(registry)}") and "\n" not in message


def test_what_resembles_nothing_gets_no_hint():
    colours = Registry("colour", {"red": 1, "green": 2})
    with pytest.raises(UserError, match="^unknown colour 'xyz': choose one of red, green$"):
        colours.find("xyz")
    with pytest.raises(UserError, match="unknown '': choose one of red, green$"):
        colours.find("", "colours")


def test_an_entry_from_outside_is_found_where_those_of_the_package_are(monkeypatch):
    own = Countermeasure("mine", augment=("cutout",))
    monkeypatch.setitem(COUNTERMEASURES, "mine", own)
    assert parse_countermeasures("none,mine") == ["none", "mine"]
    assert countermeasure_of("mine") is own and countermeasure_of("mine+grey").augment == ("cutout",)


def test_registries_are_copied_whole():
    colours = pickle.loads(pickle.dumps(Registry("colour", {"red": 1})))
    assert colours == {"red": 1} and colours.kind == "colour"


def test_names_are_split_at_commas():
    assert split_names(" b, a ,,b,") == ("b", "a")
    assert split_names(" , ") == ()
