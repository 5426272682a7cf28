"""Where should the blind set lie? Secret subspaces of several sizes and frequencies beside the cells of `keyed-dither`.

Command:
    python -m experiments.blind_sets --data-dir TFDS_FOLDER --out runs/blind-sets [--scale small]

Time: half an hour of a CPU core that others share at the tiny scale (2,000 images); what is finished is not done again.

Expect (table in docs/results, at the tiny scale): the authorized network keeps its accuracy in every blind set, but
the backbone loses more behind a subspace than behind cells; white texture in a subspace of small patches harms less
than stripes, loses less to adaptive hackers and all to JPEG; low frequencies harm little and lose all to JPEG as well.
"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import idctn

from experiments.composed import EPS, load_job, print_rows
from experiments.scales import parser
from ugejax.uge import Method
from ugejax.views import LinearView, linear_view
from ugejax.views.derive import Keystream
from ugejax.views.linear import orthonormal

SHAPE = (32, 32, 3)


def low_frequencies(secret: bytes, *, patch: int, waves: int) -> LinearView:
    """Half of the lowest `waves` x `waves` frequencies of every patch, drawn in secret."""
    unit = np.zeros((waves, waves, patch, patch))
    for a in range(waves):
        for b in range(waves):
            unit[a, b, a, b] = 1
    cosines = np.asarray(idctn(unit, axes=(2, 3), norm="ortho")).reshape(waves**2, patch, patch, 1, 1)
    basis = (cosines * np.eye(3)).transpose(1, 2, 3, 0, 4).reshape(patch * patch * 3, -1)  # [n, waves^2 * 3]
    count, size = (32 // patch) ** 2, basis.shape[1]
    mixed = orthonormal(Keystream(secret, "subspaces").normal((count, size, size // 2)))
    return LinearView(jnp.asarray(basis, jnp.float32) @ mixed, patch)


VIEWS = {
    "cells of keyed-dither, stripes": None,
    "a third of 4x4 patches": lambda secret: linear_view(secret, SHAPE, patch=4),
    "a third of 8x8 patches": lambda secret: linear_view(secret, SHAPE, patch=8),
    "half of the low frequencies of 8x8 patches": lambda secret: low_frequencies(secret, patch=8, waves=3),
    "half of the low frequencies of 16x16 patches": lambda secret: low_frequencies(secret, patch=16, waves=6),
}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    dithered, linear, rows = load_job(arguments, form="keyed-dither"), load_job(arguments, form="keyed-linear"), {}
    images, labels = linear.train.images, linear.train.labels
    key = linear.key.prng("textures")
    texture = 3 * EPS * jax.random.rademacher(key, (linear.key.num_classes, *SHAPE), jnp.float32)
    for name, make in VIEWS.items():
        if make is None:
            job, method, noise = dithered, Method(), None
        else:
            view = make(linear.key.derive("view", 32))
            job = replace(linear, network=replace(linear.network, view=view))
            method, noise = Method(parametrisation="class-wise"), jax.vmap(lambda t, v=view: v.project(t, t))(texture)
        folder = arguments.out / name.replace(" ", "-").replace(",", "")
        protection = job.protection(method)
        released = (
            protection.run(images, labels, folder) if noise is None else protection.release(images, labels, noise)
        )
        rows[name] = job.evaluate(
            released, folder, authorized=True, hackers=arguments.hackers or ("cnn",),
            countermeasures=arguments.countermeasures or ("none", "jpeg-10", "class-means", "key-recovery"),
        )  # fmt: skip
    print_rows("blind set", rows)
    summary = [{"blind_set": name, **row} for name, group in rows.items() for row in group]
    (arguments.out / "summary.json").write_text(json.dumps({"rows": summary}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
