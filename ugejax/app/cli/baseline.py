"""`ugejax protect --method NAME`: a baseline of the field in place of UGE; a release, and no key."""

import argparse
import math

import jax
from rich.console import Console

from ugejax.app.cli.arguments import build_parser
from ugejax.app.cli.progress import Reporter
from ugejax.app.cli.releasing import check_no_release_again, is_there, publish, say_what_was_found
from ugejax.app.cli.sources import source_from
from ugejax.app.protection import check_budget
from ugejax.app.release.card import make_baseline_card
from ugejax.baselines import BASELINES, change_settings
from ugejax.data import load
from ugejax.errors import UserError

# What a baseline shares with UGE; everything else is refused with it. A key may be named, so that one command line
# serves all methods, but none is made.
SHARED = {
    "command", "source", "out", "key", "method", "set", "eps", "seed", "data_dir", "n_train", "n_test", "image_size",
    "subset_seed", "save_images", "log_json", "tensorboard", "passphrase_file",
    "skip_unreadable", "again",
}  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Protect a source by a baseline, or say that it is done already."""
    method = BASELINES.find(arguments.method, "method")
    unset = build_parser().parse_args(["protect", "", "--out", ""])
    for name, value in vars(arguments).items():
        if name not in SHARED and value != getattr(unset, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: --method {arguments.method} has no use for it; leave it out")
    check_no_release_again(arguments)
    settings = change_settings(method.settings, arguments.set, "settings")
    norm = "l2" if method.norm == "l2" else "linf"
    if arguments.eps is not None:
        check_budget(arguments.eps, norm)
    seed = 0 if arguments.seed is None else arguments.seed
    source = source_from(arguments, seed if arguments.subset_seed is None else arguments.subset_seed)
    splits = load(source)
    train = splits.train
    height, width, channels = train.images.shape[1:]
    eps = method.default_eps((height, width, channels)) if arguments.eps is None else arguments.eps
    card = make_baseline_card(
        arguments.method, settings, eps=eps, norm=norm, seed=seed, source=source, n_train=len(train.images),
        n_test=0 if splits.test is None else len(splits.test.images),
    )  # fmt: skip
    if is_there(arguments, card, console):
        return 0
    say_what_was_found(source, splits, console)
    with Reporter(console) as reporter:

        def report(stage: str, done: int, of: int, figures: dict[str, float]) -> None:
            for name, value in figures.items():
                if not math.isfinite(value):
                    raise UserError(f"--method {arguments.method}: {name} was {value} at {stage} {done} of {of}")
            reporter.stage(stage, done, of, figures)

        released = method.protect(
            jax.random.key(seed), train.images, train.labels, len(train.class_names), eps=arguments.eps,
            settings=settings, report=report,
        )  # fmt: skip
    publish(arguments, released, splits, card, console)
    console.print("a baseline has no key: nobody is meant to learn from this release")
    return 0
