"""Which client holds which images, and what each client releases of its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.authorized import AuthorizedNetwork, Key, seen


class Protects(Protocol):
    """What protects images of one release: `ugejax.Protection`."""

    def of_release(self, salt: bytes) -> Self:
        """The same for another release, by its public salt."""
        ...

    def run(self, images: np.ndarray, labels: np.ndarray, folder: Path) -> np.ndarray:
        """The released images, uint8 [N, H, W, C]; checkpoints go to the folder."""
        ...


@dataclass(frozen=True, eq=False)
class Shards:
    """The images of K clients; every image has one.

    Attributes:
        indices: int32 [K, M], each client's images, ascending, filled up with zeros.
        sizes: int32 [K], how many of them there are; may be 0.
    """

    indices: np.ndarray
    sizes: np.ndarray

    def of(self, client: int) -> np.ndarray:
        """The images of one client, int32 [sizes[client]]."""
        return self.indices[client, : self.sizes[client]]


def iid_shards(key: jax.Array, labels: np.ndarray, clients: int) -> Shards:
    """Images dealt at random, to each client as many as to the others up to one.

    Args:
        key: PRNG key.
        labels: int [N].
        clients: K, at least 1.
    """
    order = np.asarray(jax.random.permutation(key, len(labels)))
    return _shards(np.arange(len(labels)) % clients, order, clients)


def dirichlet_shards(key: jax.Array, labels: np.ndarray, clients: int, *, alpha: float) -> Shards:
    """The images of each class dealt in shares drawn from a Dirichlet distribution: the smaller alpha, the more uneven.

    Yurochkin et al., Bayesian Nonparametric Federated Learning of Neural Networks, ICML 2019 (arXiv 1905.12022),
    section 4; alpha = 0.1 leaves most clients images of few classes. A client may come out without any.

    Args:
        key: PRNG key.
        labels: int [N].
        clients: K, at least 1.
        alpha: concentration, above 0.
    """
    order_key, share_key = jax.random.split(key)
    classes = np.unique(labels)
    order = np.asarray(jax.random.permutation(order_key, len(labels)))
    shares = np.asarray(jax.random.dirichlet(share_key, alpha * jnp.ones(clients), (len(classes),)), np.float64)
    owners = np.empty(len(labels), np.int64)
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels[order] == label)
        ends = np.round(np.cumsum(share) / share.sum() * len(members)).astype(int)
        owners[members] = np.searchsorted(ends, np.arange(len(members)), side="right")
    return _shards(owners, order, clients)


def _shards(owners: np.ndarray, order: np.ndarray, clients: int) -> Shards:
    """Shards in which owners[i] holds the image order[i]."""
    sizes = np.bincount(owners, minlength=clients).astype(np.int32)
    indices = np.zeros((clients, sizes.max()), np.int32)
    for client in range(clients):
        indices[client, : sizes[client]] = np.sort(order[owners == client])
    return Shards(indices, sizes)


def shard_salts(key: Key, images: np.ndarray, shards: Shards) -> list[bytes]:
    """The public salt of each client's release, 16 bytes: by the shared key, the client's number and its images."""

    def salt(client: int) -> bytes:
        own = hashlib.sha256(images[shards.of(client)].tobytes()).hexdigest()
        return key.release_salt(f"client {client} with {own}")

    return [salt(client) for client in range(len(shards.sizes))]


def seen_shards(network: AuthorizedNetwork, images: np.ndarray, shards: Shards, salts: Sequence[bytes]) -> np.ndarray:
    """What the backbone sees of uint8 images [N, H, W, C], each by the salt of its client."""
    if not network.view.blind:
        return images
    result = np.empty(images.shape, np.float32)
    for client in np.flatnonzero(shards.sizes).tolist():
        own = shards.of(client)
        result[own] = seen(network.of_release(salts[client]).view, images[own])
    return result


def protect_shards(
    protection: Protects, images: np.ndarray, labels: np.ndarray, shards: Shards, folder: Path,
    salts: Sequence[bytes],
) -> np.ndarray:  # fmt: skip
    """Every client protects its own images by itself; all of them have the same key, so their stripes agree.

    Args:
        protection: `ugejax.Protection` with the shared key; of what needs images to be made, each client has its own.
        images: originals, uint8 [N, H, W, C].
        labels: int32 [N].
        shards: whose they are.
        folder: private folder of the checkpoints.
        salts: of the clients' releases, see `shard_salts`.

    Returns:
        The released images, uint8 [N, H, W, C].
    """
    released = np.empty_like(images)
    for client in np.flatnonzero(shards.sizes).tolist():
        own = shards.of(client)
        released[own] = protection.of_release(salts[client]).run(images[own], labels[own], folder / f"client-{client}")
    return released
