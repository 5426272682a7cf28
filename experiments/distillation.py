"""What does a student of the trained authorized network learn, and what does the undistillation loss change?

The matrix of teachers (the authorized network trained on the originals, or on the release) x queries x answers (soft at
temperature 4, or hard) x students, before and after L_ud.

Command:
    python -m experiments.distillation --data-dir TFDS_FOLDER --out runs/distillation [--scale small]
        [--hackers res-tiny] [--variants keyed-dither,frozen-backbone,frozen-backbone-undistillation]

Time: about 25 minutes of one CPU core that others share at the tiny scale (2,000 images); what is finished is not done
again.

Expect (table in docs/results, at the tiny scale): soft answers on released images teach nearly all (0.41 of the 0.46
that the teacher has), about as much as those on a quarter as many natural images of the student's own; hard ones on
released images teach less, noise nothing. The default form sees no difference between a released image and its
original, so there undistillation has nothing to change and the two teachers are one; with `frozen-backbone` it changes
nothing above the noise.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.composed import Job, load_job
from experiments.scales import parser
from experiments.tables import figure, table_head, table_row
from ugejax.app.cache import FolderCache, default_cache
from ugejax.data import Dataset
from ugejax.evaluation.answers import answers_of
from ugejax.evaluation.candidates import Candidate, authorized, hacker
from ugejax.evaluation.distillation import student_labels
from ugejax.evaluation.trial import Trial
from ugejax.uge import Method
from ugejax.views import FORMS

ANSWERS = {"soft": 4.0, "hard": None}  # temperatures
VARIANTS = {
    "keyed-dither": ("keyed-dither", 0.0),
    "frozen-backbone": ("frozen-backbone", 0.0),
    "frozen-backbone-undistillation": ("frozen-backbone", 1.0),
}


def query_sets(job: Job, released: np.ndarray) -> dict[str, tuple[np.ndarray, Dataset]]:
    """What is asked, uint8 images, and on which images its student is scored: never on those that he was taught with.

    The originals are a control: who has them needs no teacher.
    """
    test, noise = job.test, np.random.default_rng(0).integers(0, 256, released.shape, np.uint8)
    unseen = Dataset(test.images[1::2], test.labels[1::2], test.class_names)
    return {
        "originals": (job.train.images, test),
        "released": (released, test),
        "own": (test.images[::2], unseen),
        "noise": (noise, test),
    }


def matrix(job: Job, released: np.ndarray, students: Sequence[str]) -> Iterator[dict]:
    """The rows of one release; trials that are in the cache are not done again."""
    queries = query_sets(job, released)
    teacher = authorized(job.key, job.network, seed=0, epochs=job.epochs, augment=())
    for kind, images in (("originals", job.train.images), ("release", released)):
        trained = trial(teacher, images, job.train.labels, job.test)
        asked = tuple(teacher.sees(images) for images, _ in queries.values())
        answers = answers_of(trained, asked, FolderCache(default_cache()), lambda *_: None)
        accuracy = trained.run_cached(FolderCache(default_cache()), lambda *_: None).last
        for (query, (images, scored)), logits in zip(queries.items(), answers, strict=True):
            for answer, temperature in ANSWERS.items():
                for name in students:
                    student = hacker(name, job.key.num_classes, seed=0, epochs=job.epochs, augment=())
                    taught = trial(student, images, student_labels(logits, temperature), scored)
                    score = taught.run_cached(FolderCache(default_cache()), lambda *_: None)
                    yield {
                        "teacher": kind, "teacher_accuracy": accuracy, "queries": query, "answers": answer,
                        "student": name, "student_accuracy": score.last, "student_peak_accuracy": score.peak,
                    }  # fmt: skip


def trial(candidate: Candidate, images: np.ndarray, labels: np.ndarray, test: Dataset) -> Trial:
    """The candidate on training images and their labels, scored on test images; all as he sees them."""
    return Trial(
        candidate.module, candidate.variables, candidate.trains, candidate.recipe, candidate.sees(images), labels,
        candidate.sees(test.images), test.labels, candidate.key,
    )  # fmt: skip


def release_of(arguments: argparse.Namespace, form: str, undistillation: float, folder: Path) -> tuple[Job, np.ndarray]:
    """The job of a form, and its release with this weight of L_ud."""
    job = load_job(arguments, form=form)
    method = Method(epochs=0 if FORMS[form].exact else 15, undistillation=undistillation)
    return job, job.protection(method).run(job.train.images, job.train.labels, folder)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--variants", default=",".join(VARIANTS), help="comma-separated")
    arguments = arguments.parse_args()
    students = arguments.hackers or ["res-tiny"]
    names = ("teacher", "queries", "answers", "student")
    figures = ("teacher_accuracy", "student_accuracy", "student_peak_accuracy")
    print(table_head("variant", "trained on", "queries", "answers", "student", "teacher", "student's last", "peak"))
    rows = []
    for variant in arguments.variants.split(","):
        job, released = release_of(arguments, *VARIANTS[variant], arguments.out / variant)
        for row in matrix(job, released, students):
            rows.append({"variant": variant, **row})
            print(table_row(variant, *(row[name] for name in names), *(figure(row[name]) for name in figures)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
