"""Federated averaging over clients that protect their own images: who learns, with the shared key and without it?

Command:
    python -m experiments.federated --data-dir TFDS_FOLDER --out runs/federated [--scale small] [--clients 10]
        [--splits iid dirichlet-0.1] [--rounds 30] [--rate 0.05]

Time: about 13 minutes at the tiny scale (2,000 images) on one CPU core that others share. Splits are iid and Dirichlet
0.1; every round trains every client for one epoch. A row that is finished is not done again.

Expect (table in docs/results, at the tiny scale): with the authorized network the average learns the same from
released images as from originals. On the iid split it learns 0.10 to 0.14 less from the release without the right key.
On the uneven one, with --rounds 100 --rate 0.01, it learns 0.12 less from the release with a wrong key; within 30
rounds at the usual rate too little, from originals as well, to tell who is kept out.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.composed import Job, load_job
from experiments.scales import parser
from experiments.tables import figure, table_head, table_row
from ugejax.app.files import replaced
from ugejax.app.keys import build_authorized
from ugejax.authorized import AuthorizedNetwork, new_key, seen
from ugejax.federated import (
    Shards,
    dirichlet_shards,
    federate,
    iid_shards,
    protect_shards,
    seen_shards,
    shard_salts,
)
from ugejax.training import accuracy
from ugejax.uge import Method
from ugejax.views import IdentityView

SPLITS = {"iid": iid_shards, "dirichlet-0.1": functools.partial(dirichlet_shards, alpha=0.1)}
ROUNDS = {"smoke": 1, "tiny": 30, "small": 30, "full": 100}
LAST = 10  # rounds: on an uneven split the accuracy swings from round to round, so their mean is what came of it


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--clients", type=int, default=10)
    arguments.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="default: all")
    arguments.add_argument("--rounds", type=int, help="default by scale")
    # McMahan et al. take SGD at a rate by grid search.
    arguments.add_argument("--rate", type=float, default=0.05, help="the clients' learning rate (default %(default)s)")
    arguments = arguments.parse_args()
    optimizer, rounds = optax.sgd(arguments.rate, momentum=0.9), arguments.rounds or ROUNDS[arguments.scale]
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(table_head("split", "clients' sizes", "who", "on originals", "on the release", "peak"))
    job, summary = load_job(arguments, form="keyed-dither"), arguments.out / "summary.json"
    settings = {"scale": arguments.scale, "clients": arguments.clients, "rounds": rounds, "rate": arguments.rate}
    before = json.loads(summary.read_text()) if summary.exists() else {}
    rows = before["rows"] if before.get("settings") == settings else []
    for row in run(job, arguments.out, arguments.splits, arguments.clients, optimizer, rounds, rows):
        if row not in rows:
            rows.append(row)
            with replaced(summary) as file:  # it is read again: whole or not at all
                file.write((json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n").encode())
        last = [f"{mean(row[kind][-LAST:]):.3f}" for kind in ("originals", "release")]
        cells = [row["split"], f"{min(row['sizes'])} to {max(row['sizes'])}", row["who"], *last]
        print(table_row(*cells, figure(max(row["release"]))), flush=True)
    return 0


def run(
    job: Job, out: Path, splits: list[str], clients: int, optimizer: optax.GradientTransformation, rounds: int,
    finished: Sequence[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows of who trained, with accuracy on clean test images after every round, on originals and on the release.

    What is finished is yielded as it is.
    """
    done = {(row["split"], row["who"]): row for row in finished}
    images, labels = job.train.images, job.train.labels
    key = jax.random.key(job.key.public_seed)
    architecture = {name: value for name, value in job.key.__dict__.items() if name != "secret"}
    blank = jnp.zeros((1, *images.shape[1:]))
    networks = {
        "authorized": job.network,
        "wrong key": build_authorized(new_key(b"hacker", **architecture)),
        "without a key": replace(job.network, view=IdentityView(), variables=job.network.module.init(key, blank)),
    }
    for split in splits:
        shards = SPLITS[split](key, labels, clients)
        salts = shard_salts(job.key, images, shards)
        released = protect_shards(job.protection(Method()), images, labels, shards, out / "checkpoints" / split, salts)
        for who, network in networks.items():
            if (split, who) in done:
                yield done[split, who]
                continue
            row: dict[str, Any] = {"split": split, "sizes": shards.sizes.tolist(), "who": who}
            for kind, data in (("originals", images), ("release", released)):
                row[kind] = _accuracies(
                    job, network, data, shards, salts, optimizer, jax.random.fold_in(key, 1), rounds
                )
            yield row


def _accuracies(
    job: Job, network: AuthorizedNetwork, images: np.ndarray, shards: Shards, salts: Sequence[bytes],
    optimizer: optax.GradientTransformation, key: jax.Array, rounds: int,
) -> list[float]:  # fmt: skip
    """Accuracy on clean test images after every round."""
    view, module = network.of_release(salts[0]).view, network.module
    test, by_round = jnp.asarray(seen(view, job.test.images)), []
    images = seen_shards(network, images, shards, salts)

    def score(done, variables):
        by_round.append(accuracy(module, variables, test, job.test.labels))

    federate(
        module, network.variables, optimizer, replace(job.key.recipe, epochs=1), jnp.asarray(images),
        jnp.asarray(job.train.labels), shards, key, rounds=rounds, after_round=score,
    )  # fmt: skip
    return by_round


if __name__ == "__main__":
    raise SystemExit(main())
