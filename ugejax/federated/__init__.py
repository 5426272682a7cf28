"""Federated training: clients keep their images, protect them with one shared key, and share weights alone."""

from ugejax.federated.averaging import average, federate
from ugejax.federated.shards import (
    Shards,
    dirichlet_shards,
    iid_shards,
    protect_shards,
    seen_shards,
    shard_salts,
)

__all__ = [
    "Shards",
    "average",
    "dirichlet_shards",
    "federate",
    "iid_shards",
    "protect_shards",
    "seen_shards",
    "shard_salts",
]
