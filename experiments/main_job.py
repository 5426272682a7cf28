"""The main job: protect an image set, and train the authorized network and the hackers on it before and after."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.scales import SCALES, checked, parser
from ugejax import (
    AuthorizedNetwork,
    Dataset,
    Evaluation,
    Key,
    Method,
    Protection,
    Source,
    UserError,
    build_authorized,
    default_recipe,
    draw_master,
    evaluate,
    method_of,
    new_key,
    read_release,
    write_release,
)
from ugejax.app.allocator import keep_freed_memory
from ugejax.app.cache import FolderCache, default_cache
from ugejax.app.protection import check_budget, run_digest
from ugejax.app.release.card import describe_anchors, describe_space, make_baseline_card, make_card
from ugejax.app.results import write_results
from ugejax.baselines import BASELINES
from ugejax.constraints.budget import amplitude
from ugejax.data import Streamed, load, load_all, load_stream
from ugejax.evaluation import DEFAULT_HACKERS, summarise
from ugejax.feature_spaces import load_feature_space
from ugejax.transforms import parse_transforms
from ugejax.views import DEFAULT_FORM, default_step


@dataclass(frozen=True)
class MainJob:
    """All that the results of a protection and its evaluation follow from.

    The release and the rows are those of `ugejax protect` and `ugejax evaluate` with the same settings and seed.

    Attributes:
        source: the originals; its own seed does not count.
        test: the test images, all of them, where they are not those of `source`.
        seed: of the key.
        subset_seed: decides which images of the source are taken; None lets it follow from the key.
        form: authorized form.
        network: backbone of the authorized network.
        step: of the form's quantiser in grey levels; None for its default.
        settings: fields of `ugejax.Method`; where a baseline protects, of its settings.
        feature_space: file or folder of the encoder in whose space the feature distance is measured.
        baseline: what protects in place of the method; there is no key then, and no authorized side.
        hackers: who trains besides; None for the default ones.
        countermeasures: what hackers do about the protection.
        distillations: what students of the authorized network ask it.
        epochs: of each training of the evaluation, without augmentation; None for each network's own.
    """

    source: Source
    test: Source | None = None
    seed: int = 0
    subset_seed: int | None = None
    form: str = DEFAULT_FORM
    network: str = "cnn"
    step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    feature_space: str | None = None
    baseline: str | None = None
    hackers: Sequence[str] | None = None
    countermeasures: Sequence[str] = ("none",)
    distillations: Sequence[str] = ()
    epochs: int | None = None


@dataclass(frozen=True)
class Protected:
    """A release beside what it was made from.

    Attributes:
        folder: the release's.
        train: originals.
        test: clean test images.
        released: uint8 [N, H, W, C].
        card: what card.json says.
        key: the key; None where a baseline protects.
        network: its network for this release.
    """

    folder: Path
    train: Dataset
    test: Dataset
    released: np.ndarray
    card: dict[str, Any]
    key: Key | None = None
    network: AuthorizedNetwork | None = None


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of an experiment that does main jobs on CIFAR-10."""
    result = parser(description)
    result.add_argument(
        "--settings", type=checked(_setting), nargs="+", default=[], metavar="NAME=VALUE",
        help="fields of ugejax.Method, for every release but those of baselines, as in --settings period=8",
    )  # fmt: skip
    return result


def _setting(text: str) -> tuple[str, Any]:
    """A field of `Method` and its value.

    Args:
        text: NAME=VALUE; a number may be a fraction such as 8/255, lists are comma-separated.

    Raises:
        UserError: there is no such field, or the value is not of its kind.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    default = {field.name: field.default for field in fields(Method)}.get(name)
    if default is None:
        raise UserError(f"{text}: not NAME=VALUE of a field of ugejax.Method")
    try:
        if name == "transforms":
            return name, parse_transforms(value, name)
        if isinstance(default, tuple):
            return name, tuple(part.strip() for part in value.split(","))
        return name, float(Fraction(value)) if isinstance(default, float) else type(default)(value)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{text}: {error}") from error


def main_job(arguments: argparse.Namespace, *, countermeasures: Sequence[str] = ("none",), **changes: Any) -> MainJob:
    """The job on CIFAR-10 that arguments of `job_parser` describe.

    Args:
        arguments: parsed; what they name comes before what the experiment does.
        countermeasures: those of an experiment where the arguments name none.
        changes: further attributes.
    """
    scale = SCALES[arguments.scale]
    job = MainJob(
        Source("cifar10", arguments.data_dir, scale.n_train, scale.n_test), network=scale.network, epochs=scale.epochs,
        hackers=arguments.hackers, countermeasures=arguments.countermeasures or countermeasures,
    )  # fmt: skip
    job = replace(job, **changes)
    return job if job.baseline else replace(job, settings={**job.settings, **dict(arguments.settings)})


def protect_and_evaluate(job: MainJob, out: Path) -> dict[str, Any]:
    """Do a job in a folder of its own; what is finished is not done again.

    Returns:
        What results.json holds: the release's card, rows with their accuracies by epoch, and their summary.

    Raises:
        SystemExit: the folder holds another release.
        UserError: a setting is wrong.
    """
    return evaluate_both_sides(job, protect(job, out), out)


def protect(job: MainJob, out: Path) -> Protected:
    """The first half of a job: makes OUT/release, by way of private checkpoints in OUT/checkpoints, or reads it.

    Raises:
        SystemExit: the folder holds another release.
        UserError: a setting is wrong.
    """
    keep_freed_memory()
    return (_by_the_method if job.baseline is None else _by_a_baseline)(job, out)


def evaluate_both_sides(job: MainJob, protected: Protected, out: Path) -> dict[str, Any]:
    """The second half of a job: trains whom it names, on the originals and on the release, and writes results.json."""
    evaluation = Evaluation(
        protected.train, protected.released, protected.test, protected.key, protected.network,
        tuple(DEFAULT_HACKERS if job.hackers is None else job.hackers), tuple(job.countermeasures), job.epochs,
        distillations=tuple(job.distillations),
    )  # fmt: skip
    rows, curves = evaluate(evaluation, FolderCache(default_cache()), found=_tell_row)
    results = {
        "schema": 1, "card": protected.card, "summary": summarise(rows),
        "rows": [row | {"by_epoch": curve} for row, curve in zip(rows, curves, strict=True)],
    }  # fmt: skip
    write_results(out / "results.json", results)
    return results


def _by_the_method(job: MainJob, out: Path) -> Protected:
    method = method_of([job.form], **job.settings)
    check_budget(method.eps, method.norm)
    key = new_key(
        draw_master(job.seed), form=job.form, network=job.network, image_shape=(1, 1, 1), num_classes=2, step=None,
        recipe=default_recipe(job.network), from_seed=True,
    )  # fmt: skip
    # Which images are taken follows from the key's secret, and only then its architecture from the images.
    source, stream, train, test = _images(job, key.public_seed)
    shape = train.images.shape[1:]
    step = default_step(job.form, amplitude(method.eps, method.norm, shape)) if job.step is None else job.step
    key = replace(key, image_shape=shape, num_classes=len(train.class_names), step=step)
    space = None if job.feature_space is None else load_feature_space(job.feature_space)
    described = describe_space(space, None)
    run = run_digest(method, [key], stream.images, stream.labels, described)
    salt = key.release_salt(run)
    network = build_authorized(key).of_release(salt)
    protection = replace(Protection.by(key, network, method), feature_space=space)
    released, card = _release(
        out / "release", train, make_card(method, [key], source, stream, salt) | described,
        lambda: protection.run(train.images, train.labels, out / "checkpoints" / run[:16], _tell), [network],
    )  # fmt: skip
    return Protected(out / "release", train, test, released, card, key, network)


def _by_a_baseline(job: MainJob, out: Path) -> Protected:
    baseline = BASELINES.find(str(job.baseline), "baseline")
    settings = replace(baseline.settings, **job.settings)
    source, stream, train, test = _images(job, job.seed)
    card = make_baseline_card(
        str(job.baseline), settings, eps=baseline.default_eps(train.images.shape[1:]), norm=baseline.norm,
        seed=job.seed, source=source, n_train=len(train.images), n_test=stream.n_test,
    )  # fmt: skip

    def made() -> np.ndarray:
        return baseline.protect(
            jax.random.key(job.seed), train.images, train.labels, len(train.class_names), settings=settings,
            report=_tell,
        )  # fmt: skip

    return Protected(out / "release", train, test, *_release(out / "release", train, card, made))


def _images(job: MainJob, seed: int) -> tuple[Source, Streamed, Dataset, Dataset]:
    """The source with the seed of its subsets, its training images as a stream and in memory, and the test images."""
    source = replace(job.source, seed=seed if job.subset_seed is None else job.subset_seed).absolute()
    splits = load(source)
    test = splits.test if job.test is None else load_all(job.test)
    if test is None:
        raise SystemExit(f"{source.name}: has no test images")
    return source, load_stream(source), splits.train, test


def _release(
    folder: Path, originals: Dataset, card: dict[str, Any], make: Callable[[], np.ndarray],
    networks: Sequence[AuthorizedNetwork] = (),
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    """The released images of a folder and its card; they are made where the folder is not there."""
    card = card | {"source": Source.from_json(card["source"]).seen_from(folder).to_json()}
    if not folder.exists():
        released = make()
        write_release(
            folder, images=released, labels=originals.labels, class_names=originals.class_names,
            originals=originals.images, card=card | describe_anchors(networks, released),
        )  # fmt: skip
    found = read_release(folder)
    if any(found.card.get(name) != value for name, value in card.items()):
        raise SystemExit(f"{folder}: holds another release; name a new folder or remove it")
    return found.images, found.card


def _tell(stage: str, done: int, of: int, figures: dict[str, float]) -> None:
    print(f"{stage} {done}/{of}", *(f"{name} {value:.4g}" for name, value in figures.items()), file=sys.stderr)


def _tell_row(row: dict[str, Any]) -> None:
    who = f"{row['role']} {row['network']} {row['countermeasure']}"
    print(f"{who}: {row['protected_accuracy']:.3f} of {row['clean_accuracy']:.3f}", file=sys.stderr)
