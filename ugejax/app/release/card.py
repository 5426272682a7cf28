"""What the card of a release says of settings, keys and limits; what is measured is added where it is written."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ugejax.authorized import AuthorizedNetwork, Key
from ugejax.data import Images, Source, Streamed
from ugejax.feature_spaces import FeatureSpace
from ugejax.perturbations.method import Method
from ugejax.views import equal_anchors, find_form

# What whoever relies on a release has to know, in its card.
CLASS_WISE_LIMITS = [
    "The perturbation is class-wise: a hacker who knows the method, estimates the texture of each class from the "
    "release and subtracts it, learns most of what the originals teach (countermeasure class-means).",
    "A hacker who fits a closed form in place of training a network needs no knowledge of the method (countermeasure "
    "ridge).",
    "No knowledge is needed to undo a part of it by JPEG, grey images or another filter, and most of it by such a "
    "filter together with crops and flips (countermeasures grey+crop-flip, jpeg-10+crop-flip) or by strong "
    "augmentation (countermeasure ueraser-lite).",
]
GENERATOR_LIMITS = [
    "The perturbation comes from a generator that is stored with the key and is as private: it holds the texture of "
    "every class, and tells of any image where the key is blind.",
    "It starts from one texture per class, which a hacker who knows the method estimates and subtracts "
    "(countermeasure class-means). Whoever trains on grey images gets nearly all that these teach (countermeasure "
    "grey), unless grey is among the transforms that it was optimised through; JPEG and other filters undo a part.",
]
CODES_LIMITS = [
    *CLASS_WISE_LIMITS[1:],
    "Its texture is the same for each class: a hacker who knows the method estimates it from the release and subtracts "
    "it (countermeasure class-means). Over it lie tiles of a small pattern of the class at random places, which he has "
    "to estimate as well (countermeasure matched-pattern), or to take away by a filter, since grey images keep little "
    "of them, or by a network that he trained on pairs of his own (countermeasure learned-purifier).",
]
LAYERED_LIMITS = [
    *CODES_LIMITS[:-1],
    "Its texture is the same for each class: a hacker who knows the method estimates it from the release and subtracts "
    "it (countermeasure class-means). Beside and over it lie small patterns of the class at random places, which he "
    "has to estimate as well, or to take away by a network that he trained on pairs of his own (countermeasure "
    "learned-purifier); matched-pattern looks for the tiles of red against green alone.",
]
STRIPES_LIMIT = (
    "The stripes are public but for which class has which, and each image shows its own (countermeasure exact-word). "
    "A filter that removes waves of their periods undoes a part of the protection, or all where they are short."
)


def make_card(method: Method, keys: list[Key], source: Source, train: Streamed, salt: bytes) -> dict:
    """What the card of a release for these keys says beside what is measured; the first key decides what is random."""
    first, *further = keys
    card = {
        "schema": 1,
        "method": "uge",
        "settings": json.loads(json.dumps(method.described)),
        "eps": method.eps,
        "norm": method.norm,
        "seed": first.public_seed,
        "salt": salt.hex(),
        "limits": _limits(method),
        **_describe(first),
        "source": source.to_json(),
        "n_train": len(train.images),
        "n_test": train.n_test,
    }
    return card | ({"further_keys": [_describe(key) for key in further]} if further else {})


def make_baseline_card(
    name: str, settings: Any, *, eps: float | None, norm: str, seed: int, source: Source, n_train: int, n_test: int
) -> dict:
    """What the card of a baseline's release says beside what is measured.

    Args:
        name: of the baseline.
        settings: its settings, an instance of a dataclass.
        eps: radius in units of [0, 1]; None where it has none: an image still cannot leave [0, 1].
        norm: of the radius, as its `BaselineMethod` has it.
        seed: of the baseline.
        source: the originals.
        n_train: number of originals.
        n_test: number of the source's test images.
    """
    return {
        "schema": 1,
        "method": name,
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        "eps": 1.0 if eps is None else eps,
        "norm": "l2" if norm == "l2" else "linf",
        "seed": seed,
        "source": source.to_json(),
        "n_train": n_train,
        "n_test": n_test,
    }


def describe_anchors(networks: Sequence[AuthorizedNetwork], released: Images) -> dict:
    """What the card says of images that are equal in the anchors of a key; nothing where no key has any."""
    views = [network.view for network in networks if network.view.anchors is not None]
    return {"equal_anchors": equal_anchors(views, released)} if views else {}


def describe_space(space: FeatureSpace | None, prototypes: np.ndarray | None) -> dict:
    """What the card says of the feature space."""
    if space is None:
        return {}
    digest = None if prototypes is None else hashlib.sha256(prototypes.tobytes()).hexdigest()
    return {"feature_space": {"family": space.family, "sha256": space.sha256, "prototypes_sha256": digest}}


def _describe(key: Key) -> dict:
    """What everybody may know of a key."""
    return {
        "authorized": {
            "form": key.form,
            "network": key.network,
            "step": key.step,
            "exact_blind_set": find_form(key.form).exact,
        },
        "key_fingerprint": key.fingerprint,
        "key_from_seed": key.from_seed,
    }


def _limits(method: Method) -> list[str]:
    if method.parametrisation == "sample-wise":
        return []
    limits = {
        "class-wise": CLASS_WISE_LIMITS,
        "generator": GENERATOR_LIMITS,
        "codes": CODES_LIMITS,
        "layered": LAYERED_LIMITS,
    }
    limits = limits[method.parametrisation]
    return [*limits, STRIPES_LIMIT] if method.start == "stripes" else limits
