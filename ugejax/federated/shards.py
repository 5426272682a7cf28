"""Which client holds which images, and what each client releases of its own."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.protect import Protection


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


def protect_shards(
    protection: Protection, images: np.ndarray, labels: np.ndarray, shards: Shards, folder: Path
) -> np.ndarray:
    """Every client protects its own images by itself; all of them have the same key, so their perturbations agree.

    Args:
        protection: with the shared key; of what needs images to be made, each client has its own.
        images: originals, uint8 [N, H, W, C].
        labels: int32 [N].
        shards: whose they are.
        folder: private folder of the checkpoints.

    Returns:
        The released images, uint8 [N, H, W, C].
    """
    released = np.empty_like(images)
    for client in np.flatnonzero(shards.sizes):
        own = shards.of(int(client))
        released[own] = protection.run(images[own], labels[own], folder / f"client-{client}")
    return released
