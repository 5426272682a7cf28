"""A generator beside free noise: on the images that it was trained on, and on as many that it never saw; how fast.

Command:
    python -m experiments.generator --data-dir TFDS_FOLDER --out runs/generator [--scale small] [--form keyed-dither]
        [--perturbation-epochs 15] [--hackers cnn] [--countermeasures none,class-means]

Time: at the tiny scale (2,000 images and as many unseen ones) 26 minutes of a CPU core that other work shared, nine of
them for the generator to learn; what is finished is not done again.

Expect (table in docs/results, at the tiny scale): with the default form the authorized network sees no difference on
either set, by construction. Hackers who train to the end get less of the generator than of free noise, by 0.04 and
more, on unseen images as on seen ones, and by subtracting class means too; their peaks do not differ. Free noise of one
tensor an image has nothing to say of unseen images, that of one tensor a class has.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.composed import Job, load_job, print_rows
from experiments.scales import parser
from experiments.tables import table_head, table_row
from ugejax.app.protection import Protection
from ugejax.data import Dataset, Source, load
from ugejax.uge import Method
from ugejax.views import FORMS

TIMED = 2000  # images


def variants(form: str, epochs: int) -> dict[str, Method]:
    """Free noise and the generator, as `ugejax.method_of` has them for this form."""
    free = Method() if FORMS[form].exact else Method(epochs=epochs)
    return {
        "one tensor a class": free,
        "one tensor an image": Method(parametrisation="sample-wise", epochs=epochs),
        "generator": Method(parametrisation="generator", epochs=epochs),
    }


def unseen_images(data_dir: str, job: Job) -> Dataset:
    """As many CIFAR-10 training images as the job has, none of which it has: a larger subset holds the smaller one."""
    source = Source("cifar10", data_dir=data_dir, n_train=len(job.train.labels), n_test=10, seed=job.key.public_seed)
    seen = load(source).train_indices
    twice = load(replace(source, n_train=2 * len(seen)))
    new = ~np.isin(twice.train_indices, seen)
    assert new.sum() == len(seen), "the subsets are nested"
    return Dataset(twice.train.images[new], twice.train.labels[new], twice.train.class_names)


def seconds_an_image(protection: Protection, data: Dataset, noise: Any) -> float:
    """Wall-clock time of a release after its first piece, which is compiled; some of `TIMED` images several times."""
    some = np.arange(TIMED) % len(data.labels)
    if protection.method.parametrisation == "sample-wise":
        noise = noise[some]
    pieces = protection.released(data.images[some], data.labels[some], noise, batch_size=TIMED // 5)
    next(pieces)
    began = time.perf_counter()
    count = sum(len(piece) for piece in pieces)
    return (time.perf_counter() - began) / count


def compare(
    job: Job, unseen: Dataset, method: Method, name: str, folder: Path, **who: Sequence[str]
) -> tuple[dict, dict]:
    """The rows of one variant by the images it is judged on, and its times."""
    protection, place = job.protection(method), folder / name.replace(" ", "-")
    began, kept = time.perf_counter(), place / "seconds.json"
    noise = protection.learn(job.train.images, job.train.labels, place)
    if not kept.exists():  # a second time the checkpoints leave nothing to learn
        place.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(time.perf_counter() - began))
    times = {"seconds_to_learn": json.loads(kept.read_text())}
    sets = {"seen": job.train} if method.parametrisation == "sample-wise" else {"seen": job.train, "unseen": unseen}
    rows = {}
    for kind, data in sets.items():
        released = protection.release(data.images, data.labels, noise)
        rows[f"{name}, {kind}"] = replace(job, train=data).evaluate(released, place / kind, authorized=True, **who)
        times["seconds_an_image"] = seconds_an_image(protection, data, noise)
    return rows, times


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--form", default="keyed-dither", help="authorized form")
    arguments.add_argument("--perturbation-epochs", type=int, default=15, help="of what is optimised")
    arguments = arguments.parse_args()
    job = load_job(arguments, form=arguments.form)
    unseen, rows, times = unseen_images(arguments.data_dir, job), {}, {}
    for name, method in variants(arguments.form, arguments.perturbation_epochs).items():
        of_variant, times[name] = compare(
            job, unseen, method, name, arguments.out / arguments.form, hackers=arguments.hackers or ("cnn",),
            countermeasures=arguments.countermeasures or ("none", "class-means"),
        )  # fmt: skip
        rows |= of_variant
    summary = {"form": arguments.form, "rows": rows, "times": times}
    (arguments.out / arguments.form / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print_rows("perturbation, images", rows)
    print("\n" + table_head("perturbation", "seconds to learn", "seconds an image", "images a second"))
    for name, taken in times.items():
        one = taken["seconds_an_image"]
        print(table_row(name, f"{taken['seconds_to_learn']:.1f}", f"{one:.2e}", f"{1 / one:.0f}"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
