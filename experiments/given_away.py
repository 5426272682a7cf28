"""What a release of the default form reveals of its dither and stripes, by what a hacker has besides it.

Command:
    python -m experiments.given_away --data-dir TFDS_FOLDER --out runs/given-away [--scale tiny]

Time: about two minutes at the tiny scale (2,000 images) on one CPU core that others share; nothing is trained.

Expect: the class's stripes are seen in any single image, an original beside its released image tells a third of that
image's dither, three images that the hacker plants tell all of it, and none of it in any other release.
"""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments.composed import EPS, Job, load_job
from experiments.scales import parser
from experiments.tables import figure, table_head, table_row
from ugejax.countermeasures.exact_word import stripes_of
from ugejax.countermeasures.natural import natural_statistics
from ugejax.perturbations.start import class_stripes
from ugejax.training import decode
from ugejax.uge import Method
from ugejax.views import DitherView, equal_anchors

LEVELS = 8  # of the budget; a step is three times that


def main() -> int:
    arguments = parser(__doc__).parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = measure(load_job(arguments, form="keyed-dither"))
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    print(table_head("who has", "what he knows", "share"))
    for row in rows:
        print(table_row(row["has"], row["knows"], figure(row["share"])))
    return 0


def measure(job: Job) -> list[dict]:
    """One row for each case; of shares by values the anchors, which nothing moves, do not count."""
    images, labels, salts = job.train.images, job.train.labels, (job.network.salt, b"another release.")
    view, other = (job.network.of_release(salt).view for salt in salts)
    assert isinstance(view, DitherView) and isinstance(other, DitherView), "the job's form is keyed-dither"
    first, second = (release(job, salt, images, labels) for salt in salts)
    signs = texture(job)[labels]
    natural = natural_statistics(decode(job.test.images))
    stripes = stripes_of(job.key.num_classes, images.shape[1:], period=Method.period)
    words, _ = stripes.named(natural.spectrum(decode(first)), natural.variance, natural)
    named = (stripes.of(words) == signs).all(axis=(1, 2, 3))
    dither = np.asarray(view.dither(jnp.asarray(images) / 255))
    inside = (first > 0) & (first < 255)  # at the ends of the scale a value stops of itself
    pair = np.where(inside & (np.abs(first.astype(int) - images) < LEVELS), cell_end(first, signs, view.step), -1)
    nearer = signs * (first.astype(int) - second) < 0
    two = np.where(inside & nearer, cell_end(first, signs, view.step), -1)
    target, target_dither = images[0], dither[:1]
    rows = [
        ("one image of the release", "the stripes of its class", float(named.mean())),
        ("an image and its original", "the image's dither", agreement(view, pair, dither)),
        ("two releases of an image under one key", "its dither in the first", agreement(view, two, dither)),
        ("three planted images", "the dither of an image of their release", agreement(
            view, planted(job, view, salts[0], target)[None], target_dither
        )),
        ("three planted images", "the dither of an image of another release under the key", agreement(
            view, planted(job, other, salts[1], target)[None], target_dither
        )),
        ("the release", "images that share their dither with another one", equal_anchors([view], images) / len(images)),
    ]  # fmt: skip
    return [{"has": has, "knows": knows, "share": share} for has, knows, share in rows]


def release(job: Job, salt: bytes | None, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The release of images with a salt, by stripes alone."""
    protection = replace(job.protection(Method()), network=job.network.of_release(salt))
    return protection.release(images, labels, jnp.asarray(EPS * texture(job), jnp.float32))


def texture(job: Job) -> np.ndarray:
    """The signs of each class's stripes, int [K, H, W, C]."""
    secret, shape = job.key.derive("textures", 32), job.key.image_shape
    return np.asarray(class_stripes(secret, job.key.num_classes, shape, amplitude=1.0, period=Method.period)).astype(
        int
    )


def cell_end(released: np.ndarray, signs: np.ndarray, step: int) -> np.ndarray:
    """The dither of each value if it was moved to the end of its cell, upwards or downwards by its sign."""
    return np.where(signs > 0, -released.astype(int) - 1, -released.astype(int)) % step


def planted(job: Job, view: DitherView, salt: bytes | None, target: np.ndarray) -> np.ndarray:
    """The dither that three flat images with the anchors of a target tell, once they are released with a salt.

    A value moves by its budget or to the end of its cell. Of three levels a budget, which is a third of a step, apart,
    one is within less than a budget of the end.
    """
    flat = np.repeat(np.array([96, 104, 112], np.uint8), target.size).reshape(3, *target.shape)
    anchors, channels = np.asarray(view.anchors), target.shape[-1]
    flat.reshape(3, -1, channels)[:, anchors] = target.reshape(-1, channels)[anchors]
    found, signs = release(job, salt, flat, np.zeros(3, np.int32)), texture(job)[0]
    at_the_end = np.abs(found.astype(int) - flat) < LEVELS
    ends = cell_end(found, signs, view.step)
    return np.where(at_the_end, ends, 0).max(axis=0)


def agreement(view: DitherView, found: np.ndarray, dither: np.ndarray) -> float:
    """Share of the values [N, H, W, C] but the anchors whose dither was found."""
    h, w = dither.shape[1:3]
    free = np.ones(h * w, bool)
    free[np.asarray(view.anchors)] = False
    return float((found == dither)[:, free.reshape(h, w)].mean())


if __name__ == "__main__":
    raise SystemExit(main())
