"""`keyed-content`: several secret projections, one picked per image by a secret hash of what delta leaves alone.

All K subspaces are orthogonal to each patch's mean colour, so the map of mean colours is the same before and after the
perturbation, and a secret hash of it names the subspace of the image on both sides. (Rounding to 8 bits moves mean
colours a little, and may move an image whose hash is a near tie to another subspace; it is rounded again then.) No
single subspace stands out in the statistics of the release once the union of the K covers the space. Our choice, not
the paper's.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ugejax.patches import patchify
from ugejax.views.derive import Keystream
from ugejax.views.form import Form
from ugejax.views.linear import GREY, PATCH, PYTORCH, LinearView, check_patches, orthonormal
from ugejax.views.view import Export, View


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ContentView(View):
    """K secret projections per patch and the secret hash that picks one per image.

    Attributes:
        bases: float32 [K, P, n, s], orthonormal columns, each orthogonal to the mean of every colour channel.
        hash_weights: float32 [K, P * C]; an image uses the subspace k whose row has the largest product with its map
            of mean colours.
        patch: side of a patch in pixels.
    """

    bases: jax.Array = field(repr=False)
    hash_weights: jax.Array = field(repr=False)
    patch: int = field(metadata={"static": True})

    blind = True
    draws = 4

    def select(self, x: jax.Array) -> jax.Array:
        """Index in 0 .. K - 1 of the subspace of each image, int32 [...]."""
        colours = patchify(x, self.patch)
        colours = colours.reshape(*colours.shape[:-1], self.patch**2, x.shape[-1]).mean(axis=-2)
        colours = colours.reshape(*colours.shape[:-2], -1)
        # In full, so that every device picks the same.
        return jnp.argmax(jnp.matmul(colours, self.hash_weights.T, precision=jax.lax.Precision.HIGHEST), axis=-1)

    def apply(self, x: jax.Array) -> jax.Array:
        """M + (I - Q_k Q_k^T)(x - m) with the subspace k = select(x)."""
        return x - self.project(x - GREY, x)

    def project(self, delta: jax.Array, x: jax.Array) -> jax.Array:
        """Q_k Q_k^T delta with the subspace k = select(x)."""
        # One projection per subspace, of which one is kept: K small products are cheaper than a gather of [n, s] per
        # image.
        candidates = jnp.stack([LinearView(basis, self.patch).project(delta, x) for basis in self.bases])
        picked = jax.nn.one_hot(self.select(x), len(self.bases), axis=0)
        return jnp.sum(candidates * picked[..., None, None, None], axis=0)

    def keeps(self, x: jax.Array, x_u: jax.Array) -> jax.Array:
        """Whether rounding has not moved the image to another subspace, as it may where its hash is a near tie."""
        return self.select(x_u) == self.select(x)

    def export(self) -> Export:
        """`bases`, float32 [K, P, n, s], and `hash_weights`, float32 [K, P * C]."""
        arrays = {"bases": np.asarray(self.bases), "hash_weights": np.asarray(self.hash_weights)}
        return Export(arrays, PYTORCH.read_text())


def content_view(
    secret: bytes, shape: tuple[int, int, int], *, patch: int = 4, hidden: float = 1 / 3, subspaces: int = 4
) -> ContentView:
    """Derive `subspaces` secret projections and the hash that picks among them.

    Args:
        secret: from which they follow.
        shape: (H, W, C) of the images; H and W are multiples of `patch`.
        patch: side of a patch in pixels.
        hidden: share of each patch's dimensions that the view hides, in (0, 1).
        subspaces: K.
    """
    h, w, c = shape
    pixels, count = patch * patch, (h // patch) * (w // patch)
    draw = Keystream(secret, "subspaces").normal
    gaussian = draw((subspaces, count, pixels, c, max(1, round(hidden * pixels * c))))
    gaussian -= gaussian.mean(axis=2, keepdims=True)  # orthogonal to each channel's mean, before and after the QR
    bases = orthonormal(gaussian.reshape(subspaces, count, pixels * c, -1))
    weights = Keystream(secret, "hash").normal((subspaces, count * c))
    # Rows that sum to zero compare regions and not the brightness of the whole image, which would favour one row.
    return ContentView(bases, jnp.asarray(weights - weights.mean(axis=1, keepdims=True), jnp.float32), patch)


def _view(secret: bytes, shape: tuple[int, int, int], step: int | None) -> ContentView:
    check_patches(shape)
    return content_view(secret, shape, patch=PATCH)


KEYED_CONTENT = Form(
    "keyed-content",
    _view,
    exact=True,
    secret_part="four projections, one picked per image by a secret hash",
    perturbation="in the picked null space",
    # Its subspaces hold nothing that is constant within a patch, as longer stripes are in half of the patches.
    settings={"period": PATCH},
)
