"""The frozen secret part of an authorized network: a *view* of the image, and the perturbations it is blind to.

An authorized network is f(x; theta) = g(v(x); theta) with a frozen secret view v and a backbone g whose weights train.
The blind set of x is {delta : v(x + delta) = v(x)}: a perturbation in it changes no activation, hence no gradient, for
*any* theta, so gradient matching along every trajectory holds exactly. A view states its blind set as the intersection
of a linear subspace (`project`) and an elementwise interval (`bounds`), which is what the feasible set needs.

Every view is a pytree of arrays whose methods are pure functions, usable under jit, vmap and pmap. Images are float
[..., H, W, C] in [0, 1]. A view that derives from `View` writes what differs from no secret part at all.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np


class BlindSet(Protocol):
    """The perturbations that a view, or several, are blind to; by default none is known.

    Attributes:
        blind: whether there is a non-trivial blind set, so that perturbations confined to it are exact.
        patch: side of the patches on each of which the blind set is a subspace; None where bounds in whole grey levels
            alone confine it.
        draws: how many roundings at random an image gets, of which the first that `keeps` its blind set is taken.
    """

    blind: bool = False
    patch: int | None = None
    draws: int = 1

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """The nearest perturbation to delta [..., H, W, C] in the subspace of x's blind set; by default delta."""
        return delta

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Lower and upper bound, broadcastable to x, of the elements of a blind perturbation of x; by default -1, 1."""
        return jnp.asarray(-1.0), jnp.asarray(1.0)

    def keeps(self, x: jax.Array, x_u: jax.Array) -> jax.Array:
        """Whether x_u, which is x with a blind perturbation and rounded, has the blind set of x; by default always.

        Args:
            x: originals [..., H, W, C].
            x_u: what they would be released as, of the same shape.

        Returns:
            bool [...], for each image.
        """
        return jnp.ones(x.shape[:-3], bool)


class View(BlindSet, Protocol):
    """What the protection asks of the frozen secret part of an authorized network.

    Attributes:
        hides: whether the backbone sees anything else than the image itself.
        anchors: int32 [A], flat positions (row * W + column) of the pixels from which alone follows what is done to an
            image, so that images that agree in them share it; None where there are none.
        salted: whether it sees the images of one release alone, whose salt it has from `of_release`.
        salt: uint32 [4], public, of that release; None for no release.
    """

    hides: bool = True
    anchors: jax.Array | None = None
    salted: bool = False
    salt: jax.Array | None = None

    @abstractmethod
    def apply(self, x: jax.Array) -> jax.Array:
        """v(x): what the backbone sees of images x [..., H, W, C]; the same shape."""
        ...

    def of_release(self, salt: bytes | None) -> Self:
        """The view for the images of a release with this salt of 16 bytes, or for no release; itself if not salted."""
        return self

    def export(self) -> "Export | None":
        """The view for a partner who trains without JAX; None where there is no secret part."""
        return None


@dataclass(frozen=True, eq=False)
class Export:
    """A view for PyTorch.

    Attributes:
        arrays: float32 and int64, as private as the key.
        source: of a module that imports torch, numpy and safetensors alone. Its class `SecretView`, a torch.nn.Module,
            is made from the path of the arrays' safetensors file and maps images [N, C, H, W], float in [0, 1], to what
            the view sees of them. None where there is no such module.
    """

    arrays: dict[str, np.ndarray]
    source: str | None
