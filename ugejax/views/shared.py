"""What several authorized networks are blind to together: a perturbation for one release that each of them learns from.

The intersection of their blind sets. Cells of dithered quantisers meet in a smaller box per value, of which
`share_of_budget` tells the size. Two secret subspaces of a third of a patch's dimensions meet in nothing but zero,
and a subspace is cut off by the narrowest cell of its patch: such forms have to stay alone. Networks without a blind
set confine nothing; their gradients are matched.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.data.stream import Images, pieces
from ugejax.errors import UserError
from ugejax.views.view import BlindSet, View


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SharedCells(BlindSet):
    """The boxes in which the cells of several dithered quantisers meet.

    Attributes:
        views: the quantisers.
    """

    views: tuple[View, ...]

    blind = True

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The intersection of the cells of each value, and no room for any quantiser's anchors."""
        lower, upper = zip(*(view.bounds(x) for view in self.views), strict=True)
        return functools.reduce(jnp.maximum, lower), functools.reduce(jnp.minimum, upper)


def shared_blind_set(views: Sequence[View]) -> BlindSet:
    """The perturbations that all of these views are blind to; views without a blind set do not count.

    Raises:
        UserError: a secret subspace is to be shared.
    """
    blind = tuple(view for view in views if view.blind)
    if len(blind) < 2:
        return (*blind, *views)[0]
    if any(view.patch is not None for view in blind):
        raise UserError(
            "the secret subspace of keyed-linear or keyed-content leaves no room to a second blind set; "
            "use keyed-dither for several keys",
            argument="authorized",
        )
    return SharedCells(blind)


def share_of_budget(steps: Sequence[int], levels: int) -> float:
    """Share of a budget that cells of several quantisers leave a perturbation of one sign, on average over values.

    The room in a cell of step D is uniform on {0, ..., D - 1} and independent between keys, so that of e levels is left
    E min(e, rooms) = sum over j = 1 ... e of P(every room is at least j), hence the share

        (1 / e) sum over j = 1 ... e of prod over keys of (1 - j / D)

    For D = 3 e and many levels that is 3 (1 - (2/3)^(K + 1)) / (K + 1): 0.83, 0.70, 0.52, 0.33 for K = 1, 2, 4, 8;
    for e = 8 levels 0.81, 0.67, 0.47, 0.27. Anchor pixels and the ends of the grey scale take a little more.

    Args:
        steps: step of each quantiser in grey levels.
        levels: e, the budget in whole grey levels, at least 1.
    """
    return sum(math.prod(max(0.0, 1 - j / step) for step in steps) for j in range(1, levels + 1)) / levels


def equal_anchors(views: Iterable[View], images: Images) -> int:
    """Number of uint8 images [N, H, W, C] that agree with another one of them in all anchors of one of the views."""
    (count, h, w, c), shared = images.shape, np.zeros(len(images), bool)
    for positions in (np.asarray(view.anchors) for view in views if view.anchors is not None):
        anchors = [images[part].reshape(-1, h * w, c)[:, positions] for part in pieces(count, of=(h, w, c))]
        _, place, times = np.unique(np.concatenate(anchors), axis=0, return_inverse=True, return_counts=True)
        shared |= times[place.reshape(-1)] > 1
    return int(shared.sum())
