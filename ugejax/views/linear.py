"""`keyed-linear`: a frozen secret projection per patch; its blind set is a secret subspace per patch position.

v(x) = m + (I - Q Q^T)(x - m) on patches, with secret orthonormal Q [n, s] for each patch position; every delta in
range(Q) is invisible. Our choice, not the paper's; the exact case of gradient matching.
"""

from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.errors import UserError
from ugejax.patches import patchify, unpatchify
from ugejax.views.derive import Keystream
from ugejax.views.form import Form
from ugejax.views.view import Export, View

GREY = 0.5  # m: what the backbone sees in place of the hidden components
PATCH = 4  # of the keys' views
PYTORCH = Path(__file__).parent / "pytorch" / "projection.py.txt"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinearView(View):
    """A secret projection per patch.

    Attributes:
        basis: Q, float32 [P, n, s], orthonormal columns, one subspace for each of the P patch positions.
        patch: side of a patch in pixels; n = patch * patch * C.
    """

    basis: jax.Array = field(repr=False)
    patch: int = field(metadata={"static": True})

    blind = True

    def apply(self, x: jax.Array) -> jax.Array:
        """M + (I - Q Q^T)(x - m), patch by patch."""
        return x - self.project(x - GREY, x)

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """Q Q^T delta, patch by patch; x is not used."""
        h, w, c = delta.shape[-3:]
        patches = patchify(delta, self.patch)
        # In full: accelerators would multiply some ten bits, and what one hides another device would see.
        coefficients = jnp.einsum("...pn,pns->...ps", patches, self.basis, precision=jax.lax.Precision.HIGHEST)
        hidden = jnp.einsum("...ps,pns->...pn", coefficients, self.basis, precision=jax.lax.Precision.HIGHEST)
        return unpatchify(hidden, self.patch, (h, w, c))

    def export(self) -> Export:
        """`bases`, float32 [1, P, n, s], and `hash_weights`, float32 [1, P * C]: as of K = 1 subspaces of content."""
        count, values, _ = self.basis.shape
        weights = np.zeros((1, count * values // self.patch**2), np.float32)
        return Export({"bases": np.asarray(self.basis)[None], "hash_weights": weights}, PYTORCH.read_text())


def linear_view(secret: bytes, shape: tuple[int, int, int], *, patch: int = 4, hidden: float = 1 / 3) -> LinearView:
    """Derive a secret projection.

    Args:
        secret: from which the subspaces follow.
        shape: (H, W, C) of the images; H and W are multiples of `patch`.
        patch: side of a patch in pixels.
        hidden: share of each patch's n = patch * patch * C dimensions that the view hides, in (0, 1).
    """
    h, w, c = shape
    n = patch * patch * c
    count = (h // patch) * (w // patch)
    gaussian = Keystream(secret, "subspaces").normal((count, n, max(1, round(hidden * n))))
    return LinearView(orthonormal(gaussian), patch)


def orthonormal(columns: np.ndarray) -> jax.Array:
    """Orthonormal bases of the columns of float64 matrices [..., n, s], float32.

    Decomposed in double precision on the host: what libraries and devices do differently is lost in the rounding.
    """
    return jnp.asarray(np.linalg.qr(columns)[0], jnp.float32)


def check_patches(shape: tuple[int, int, int]) -> None:
    """Refuse images [H, W, C] that do not divide into the patches of the keys' views.

    Raises:
        UserError: they do not.
    """
    if shape[0] % PATCH or shape[1] % PATCH:
        raise UserError(
            f"images of {shape[0]}x{shape[1]} do not divide into patches of {PATCH}x{PATCH}: take keyed-dither, which "
            "has none, or images of other sides"
        )


def _view(secret: bytes, shape: tuple[int, int, int], step: int | None) -> LinearView:
    check_patches(shape)
    return linear_view(secret, shape, patch=PATCH)


KEYED_LINEAR = Form(
    "keyed-linear",
    _view,
    exact=True,
    secret_part="a secret projection per 4x4 patch",
    perturbation="in the projection's null space",
)
