"""`ugejax demo`: the main job on data that comes along, both sides trained, in one folder."""

import argparse
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
from ugejax.evaluation import Evaluation

# Digits are 8x8 images of full contrast that any network learns in an epoch: a budget of 8/255 harms nobody. It takes
# half the grey scale and the misaligned start to mislead the hackers here; BUILD_NOTES.md has the figures.
SETTINGS = "--eps 128/255 --dither-step 160 --start misaligned"


def run(arguments: argparse.Namespace) -> int:
    """Protect the digits, evaluate, and say where everything is."""
    console, out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140), arguments.out
    check_out(out, EVALUATED)
    cache = usable_cache(arguments.cache)
    out.mkdir(parents=True, exist_ok=True)
    command = ["protect", "digits", "--out", str(out / "release"), "--key", str(out / "key")]
    command += ["--seed", str(arguments.seed), *SETTINGS.split()]
    console.print(f"ugejax {' '.join(command)}", highlight=False)
    protect.run(build_parser().parse_args(command), console)
    console.print(f"ugejax evaluate {out / 'release'} --key {out / 'key'} --out {out}", highlight=False)
    release, key = read_release(out / "release"), open_key(out / "key")
    network = open_network(key, out / "key", release.card, out / "release")
    evaluation = Evaluation(
        load_originals(out / "release", release, None, None), release.images,
        load_test(out / "release", release, None, None), key, network,
    )  # fmt: skip
    results = evaluate_into(out, evaluation, release.card, str(out / "release"), cache)
    print_table(results, console)
    page, _ = write_report(out)
    console.print(
        f"{out}/: release/ is for everybody, key/ for the partner alone; results.json, images.png, accuracy.png\n"
        f"{page}: open it in a browser",
        highlight=False,
    )
    return 0
