"""`ugejax evaluate` and `ugejax attack`: train both sides, or the hackers alone; leave results and pictures."""

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from ugejax.app.cache import FolderCache
from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import load_originals, load_test
from ugejax.app.cli.own import own_part
from ugejax.app.cli.places import check_out, usable_cache
from ugejax.app.cli.progress import Reporter
from ugejax.app.imitation import imitation_of
from ugejax.app.keys import seal_of
from ugejax.app.lock import alone_in
from ugejax.app.release import read_release
from ugejax.app.report import draw_curves, draw_images, gather, print_table, write_evidence
from ugejax.app.results import write_results
from ugejax.countermeasures import parse_countermeasures
from ugejax.countermeasures.purifier import purify
from ugejax.data import Source
from ugejax.errors import UserError
from ugejax.evaluation import DEFAULT_HACKERS, Evaluation, evaluate, parse_distillations, parse_hackers, summarise
from ugejax.evaluation.candidates import OTHER_INIT
from ugejax.evaluation.features import learned_features
from ugejax.evaluation.results import SCHEMA
from ugejax.networks import NETWORKS, read_weights, variable_shapes

EVALUATED = "summary"  # a field of results.json that no other command's has


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a release; the attack is the same without the key, hence without the authorized side."""
    keyed = arguments.command != "attack"
    default = DEFAULT_HACKERS if keyed else tuple(name for name in DEFAULT_HACKERS if name != "wrong-key")
    hackers = default if arguments.hackers is None else parse_hackers(arguments.hackers)
    countermeasures = parse_countermeasures(arguments.countermeasures)
    if arguments.purifier is not None:
        countermeasures = list(dict.fromkeys([*countermeasures, "purifier"]))
    files = dict(_named_file(text) for text in arguments.init)
    if files:
        countermeasures = list(dict.fromkeys([*countermeasures, "pretrained"]))
    distillations = parse_distillations(arguments.distillation) if keyed and arguments.distillation is not None else ()
    if not keyed and "wrong-key" in hackers:
        raise UserError("--hackers: wrong-key needs to know the key's form; use `ugejax evaluate --key`")
    check_out(arguments.out, EVALUATED)
    release = read_release(arguments.release)
    for name in hackers:
        if name != "wrong-key":
            # Refuse what cannot take these images before anything is trained.
            variable_shapes(name.removesuffix(OTHER_INIT), 2, release.images.shape[1:])
    init = {name: read_weights(path, name, release.images.shape[1:]) for name, path in files.items()}
    cache = usable_cache(arguments.cache)
    key = network = None
    if keyed:
        key = open_key(arguments.key, arguments.passphrase_file)
        network = open_network(key, arguments.key, release.card, arguments.release)
    originals = load_originals(arguments.release, release, arguments.originals, arguments.data_dir)
    test = load_test(arguments.release, release, arguments.test, arguments.data_dir, originals=arguments.originals)
    evaluation = Evaluation(
        originals,
        release.images,
        test,
        key,
        network,
        hackers,
        tuple(countermeasures),
        arguments.epochs,
        range(arguments.seeds),
        distillations,
        _purifier(arguments.purifier, release.images),
        arguments.batch_size,
        init,
        imitation_of(release.card, len(originals.class_names)),
    )
    results = evaluate_into(arguments.out, evaluation, release.card, str(arguments.release), cache)
    print_table(results, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140))
    return 0


def _named_file(text: str) -> tuple[str, Path]:
    """What --init names: a network and a file."""
    name, _, file = text.partition("=")
    if name not in NETWORKS or not file:
        raise UserError("is not NETWORK=FILE with a network of `ugejax list`", argument="init", value=text)
    return name, Path(file)


def _purifier(name: str | None, images: np.ndarray) -> Callable[[np.ndarray], Any] | None:
    """The function of that name, tried on one image, so that a mistake shows before anything is trained."""
    if name is None:
        return None
    function = own_part(name, "--purifier", "function", callable)
    purify(images[:1], purifier=function)
    return function


def evaluate_into(
    out: Path,
    evaluation: Evaluation,
    card: dict,
    release: str,
    cache: FolderCache,
    *,
    further: Sequence[Evaluation] = (),
) -> dict:
    """Evaluate and write results.json, evidence.npz, images.png and accuracy.png into a folder; returns the results.

    The training that is under way is kept in OUT/trainings, so that a run that was cut off goes on from there.

    Args:
        out: the folder.
        evaluation: what to evaluate.
        card: of the release.
        release: its folder, as the user named it.
        cache: folder of finished trials.
        further: evaluations of the same release whose rows come after those.
    """
    out.mkdir(parents=True, exist_ok=True)
    seal = None if evaluation.key is None else seal_of(evaluation.key) / "evaluate"
    cache = dataclasses.replace(cache, trainings=out / "trainings", seal=seal)
    with alone_in(out):
        results = _evaluate_into(out, evaluation, card, release, cache, further)
        shutil.rmtree(out / "trainings", ignore_errors=True)  # what a run left that was killed, and other code
    return results


def _evaluate_into(
    out: Path, evaluation: Evaluation, card: dict, release: str, cache: FolderCache, further: Sequence[Evaluation]
) -> dict:
    originals = evaluation.originals
    levels = int(np.abs(evaluation.released.astype(int) - originals.images).max())
    draw_images(
        out / "images.png", originals.images, evaluation.released, originals.labels, originals.class_names, levels
    )
    so_far: dict[str, list[float]] = {"authorized": [], "hackers": []}
    console = Console(file=sys.stderr)
    # A bar of its own: the rows find these trainings in the cache, and nobody knows yet how many rows there are.
    with Reporter(console, estimates=False) as reporter:

        def learn(title: str, epoch: int, epochs: int, accuracy: float) -> None:
            text = f"{title}, epoch {epoch}/{epochs}: {accuracy:.3f}"
            figures = {"accuracy": accuracy}
            reporter.update(epoch / epochs, text, stage=title, done=epoch, of=epochs, figures=figures)

        features = learned_features(evaluation, cache, learn)
    rows, curves = [], []
    for one in (evaluation, *further):
        more, their_curves = _evaluate(one, cache, console, so_far)
        rows, curves = rows + more, curves + their_curves
    results = {
        "schema": SCHEMA,
        "dataset": Source.from_json(card["source"]).found_from(Path(release)).title,
        "release": release,
        "card": card,
        "n_train": len(evaluation.released),
        "n_test": len(evaluation.test.images),
        "seed": card.get("seed"),
        "backend": jax.default_backend(),
        "realised_linf": levels,
        "rows": [row | {"by_epoch": curve} for row, curve in zip(rows, curves, strict=True)],
        "summary": summarise(rows),
    }
    draw_curves(out / "accuracy.png", rows, curves)
    write_evidence(out / "evidence.npz", gather(originals.images, evaluation.released, originals.labels, *features))
    write_results(out / "results.json", results)
    return results


def _evaluate(
    evaluation: Evaluation, cache: FolderCache, console: Console, so_far: dict[str, list[float]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and curves of an evaluation, see `evaluate`; their accuracies on the release are added to `so_far`."""
    with Reporter(console) as reporter:

        def report(done: int, of: int, title: str, epoch: int, epochs: int, accuracy: float) -> None:
            figures = {"accuracy": accuracy} | {f"{who}_so_far": max(some) for who, some in so_far.items() if some}
            shown = "".join(f"; {who} at most {max(some):.3f} so far" for who, some in so_far.items() if some)
            reporter.update(
                (done + epoch / epochs) / of, f"{done}/{of} {title}, epoch {epoch}/{epochs}: {accuracy:.3f}{shown}",
                stage=title, done=epoch, of=epochs, figures=figures,
            )  # fmt: skip

        def found(row: dict[str, Any]) -> None:
            who = "authorized" if row["role"] == "authorized" else "hackers"
            so_far[who].append(row["protected_accuracy"])

        return evaluate(evaluation, cache, report, found)
