"""`ugejax demo`: the main job on data that comes along, both sides trained, in one folder."""

import argparse
import dataclasses
import shlex
import sys

from rich.console import Console

from ugejax.app.cli import protect
from ugejax.app.cli.arguments import build_parser
from ugejax.app.cli.evaluate import EVALUATED, evaluate_into
from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import load_originals, load_test
from ugejax.app.cli.places import check_out, usable_cache
from ugejax.app.release import read_release
from ugejax.app.report import print_table, write_report
from ugejax.evaluation import Evaluation, parse_hackers

# What is protected, by the method that is the default.
PROTECTION = "digits-photos"
# Who trains on it and for how long: as many epochs as three minutes allow.
HACKERS, EPOCHS = "cnn,wrong-key", 5
# The augmentation of the first hacker's second training, which takes more than twice as many epochs. Digits that are
# mirrored are none, but it is what everybody does; the same training on the originals says what it costs here.
AUGMENTATION = "crop-flip"


def run(arguments: argparse.Namespace) -> int:
    """Protect the digits in photographs, evaluate, and say where everything is."""
    console, out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140), arguments.out
    check_out(out, EVALUATED)
    cache = usable_cache(arguments.cache)
    out.mkdir(parents=True, exist_ok=True)
    command = ["protect", *PROTECTION.split(), "--out", str(out / "release"), "--key", str(out / "key")]
    command += ["--seed", str(arguments.seed)]
    console.print(f"ugejax {shlex.join(command)}", highlight=False, soft_wrap=True)
    protect.run(build_parser().parse_args(command), console)
    command = ["evaluate", str(out / "release"), "--key", str(out / "key"), "--out", str(out)]
    command += ["--hackers", HACKERS, "--epochs", str(EPOCHS)]
    hackers = parse_hackers(HACKERS)
    also = f", and {hackers[0]} once more with {AUGMENTATION}"
    console.print(f"ugejax {shlex.join(command)}{also}", highlight=False, soft_wrap=True)
    release, key = read_release(out / "release"), open_key(out / "key")
    network = open_network(key, out / "key", release.card, out / "release")
    evaluation = Evaluation(
        load_originals(out / "release", release, None, None), release.images,
        load_test(out / "release", release, None, None), key, network, hackers, epochs=EPOCHS,
    )  # fmt: skip
    augmented = dataclasses.replace(
        evaluation, key=None, network=None, hackers=hackers[:1], countermeasures=(AUGMENTATION,)
    )
    results = evaluate_into(out, evaluation, release.card, str(out / "release"), cache, further=[augmented])
    print_table(results, console)
    page, _ = write_report(out)
    console.print(
        f"{out}/: release/ is for everybody, key/ for the partner alone; results.json, images.png, accuracy.png\n"
        f"{page}: open it in a browser",
        highlight=False,
    )
    return 0
