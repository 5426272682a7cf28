"""Ablation of the feasible set's steps and of the rounding, on `keyed-linear`, whose blind set is a subspace.

Command:
    python -m experiments.ablation_projection --data-dir TFDS_FOLDER --out runs/ablation-projection [--scale small]

Time: at the tiny scale (2,000 images) with --hackers cnn less than a minute a training of one CPU core that others
share; what is finished is not done again.

Expect (at the tiny scale): no step shows: the authorized network gets 0.41 to 0.43 and a
hacker 0.14 to 0.19, in no order.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.composed import EPS, load_job, print_rows
from experiments.scales import parser
from ugejax.constraints.feasible import allowed, feasible
from ugejax.constraints.rounding import round_to_8bit, stochastic_round_to_8bit
from ugejax.perturbations.start import class_stripes
from ugejax.training import decode

# name: (alternating projections, shrinking what is left over, stochastic rounding)
VARIANTS = {
    "all steps": (20, True, True),
    "one projection, shrunk": (1, True, True),
    "one projection, clipped": (1, False, True),
    "20 projections, clipped": (20, False, True),
    "all steps, rounded to nearest": (20, True, False),
    "one projection, clipped, rounded to nearest": (1, False, False),
}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    job, rows = load_job(arguments, form="keyed-linear"), {}
    view, data = job.network.view, job.train
    h, w, c = data.images.shape[1:]
    stripes = class_stripes(job.key.derive("textures", 32), job.key.num_classes, (h, w, c), amplitude=EPS, period=8)
    key = jax.random.key(job.key.public_seed)
    for name, (iterations, shrinks, stochastic) in VARIANTS.items():

        @jax.jit
        def batch(x_u8, y, index, iterations=iterations, shrinks=shrinks, stochastic=stochastic):
            x, wanted = decode(x_u8), stripes[y]
            lower, upper = (jnp.broadcast_to(bound, x.shape) for bound in allowed(x, view, eps=EPS))
            if shrinks:
                delta = feasible(wanted, x, view, eps=EPS, iterations=iterations)
            else:
                for _ in range(iterations):
                    delta = wanted = jnp.clip(view.project(wanted, x), lower, upper)
            if not stochastic:
                return round_to_8bit(x_u8, delta, lower=lower, upper=upper)
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
            return jax.vmap(lambda k, x, d, lo, up: stochastic_round_to_8bit(k, x, d, lower=lo, upper=up))(
                keys, x_u8, delta, lower, upper
            )

        parts = [np.arange(start, min(start + 500, len(data.images))) for start in range(0, len(data.images), 500)]
        released = np.concatenate([np.asarray(batch(data.images[part], data.labels[part], part)) for part in parts])
        rows[name] = job.evaluate(
            released, arguments.out / name.replace(" ", "-").replace(",", ""), authorized=True,
            hackers=arguments.hackers or ("cnn",), countermeasures=arguments.countermeasures or ("none",),
        )  # fmt: skip
    print_rows("steps", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
