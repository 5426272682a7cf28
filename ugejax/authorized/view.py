"""The frozen secret part of an authorized network: a *view* of the image, and the perturbations it is blind to.

An authorized network is f(x; theta) = g(v(x); theta) with a frozen secret view v and a backbone g whose weights train.
The blind set of x is {delta : v(x + delta) = v(x)}: a perturbation in it changes no activation, hence no gradient, for
*any* theta, so gradient matching along every trajectory holds exactly. A view states its blind set as the intersection
of a linear subspace (`project`) and an elementwise interval (`bounds`), which is what the feasible set needs.

Every view is a pytree of arrays whose methods are pure functions, usable under jit, vmap and pmap. Images are float
[..., H, W, C] in [0, 1].
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp


class BlindSet(Protocol):
    """The perturbations that a view, or several, are blind to."""

    @property
    def blind(self) -> bool:
        """Whether there is a non-trivial blind set, so that perturbations confined to it are exact."""
        ...

    @property
    def patch(self) -> int | None:
        """Side of the patches on each of which the blind set is a subspace; None where only bounds confine it."""
        ...

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """The nearest perturbation to delta [..., H, W, C] in the linear subspace of x's blind set."""
        ...

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Lower and upper bound, broadcastable to x, of the elements of a blind perturbation of x."""
        ...


class View(BlindSet, Protocol):
    """What the protection asks of the frozen secret part of an authorized network."""

    def apply(self, x: jax.Array) -> jax.Array:
        """v(x): what the backbone sees of images x [..., H, W, C]; the same shape."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IdentityView:
    """No secret part: the backbone sees the image itself, and nothing is invisible to it."""

    @property
    def blind(self) -> bool:
        """False: every perturbation is seen."""
        return False

    @property
    def patch(self) -> None:
        """None: there is no subspace."""
        return None

    def apply(self, x: jax.Array) -> jax.Array:
        """The images themselves."""
        return x

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """The perturbation itself: nothing confines it."""
        return delta

    def bounds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """No bound beyond what an image can hold."""
        return jnp.asarray(-1.0), jnp.asarray(1.0)
