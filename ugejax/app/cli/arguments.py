"""The command line's arguments; nothing here imports jax, so that a mistake is answered at once."""

import argparse
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from ugejax import __version__
from ugejax.perturbations.method import CHOICES, STRENGTHS


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, and that takes no option for another: --seed of evaluate is not --seeds."""

    def __init__(self, **options: Any):
        """Take the options of `argparse.ArgumentParser`."""
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; a command refuses by itself what it does not know."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def fraction(text: str) -> float:
    """A budget such as 8/255 or 0.03, above 0."""
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 8/255 or 0.03") from None
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def step(text: str) -> int:
    """A step of the quantiser, 2 to 255 grey levels."""
    value = _whole(text, 2)
    if value > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 255 grey levels")
    return value


def weight(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def address(text: str) -> str:
    """Where a process can be reached, HOST:PORT."""
    if not re.fullmatch(r"[^\s]+:\d{1,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write HOST:PORT")
    return text


def function(text: str) -> str:
    """The name of a function, PACKAGE.MODULE:FUNCTION."""
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", text):
        raise argparse.ArgumentTypeError(f"{text!r} names no function; write PACKAGE.MODULE:FUNCTION")
    return text


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="ugejax", description="Make a labelled image set learnable for the holder of a key only.",
        epilog="Begin with `ugejax demo`, or with `ugejax check` and your own images. `ugejax COMMAND --help` has the "
        "options of a command. Exit codes: 0 done, 1 a check failed, 2 a mistake in what was given, 130 interrupted.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ugejax {__version__}", help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")

    demo = commands.add_parser("demo", help="protect digits in photographs, train both sides, show what happened")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything (default %(default)s)")
    demo.add_argument("--seed", type=natural, default=0, help="seed of the key and of everything else (default 0)")
    _cache(demo)

    check = commands.add_parser("check", help="look at a source before anything long begins: what would be protected")
    check.add_argument("source", metavar="SOURCE", help="as for protect")
    _subset(check)
    check.add_argument("--subset-seed", type=natural, help="as for protect (default 0)")
    check.add_argument("--quick", action="store_true", help="read headers alone, not the images")
    check.add_argument("--json", action="store_true", help="as JSON, for programs")
    check.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON, with every file that is named")

    protect = commands.add_parser(
        "protect", help="make a release and a key from originals",
        description="Make a release and a key from originals. An image folder or a TFDS data set is read, protected "
        "and written piece by piece, so it need not fit into memory. If the perturbation is optimised "
        "(--perturbation-epochs), up to 1 GiB of images lies on the device. A baseline holds all images.",
    )  # fmt: skip
    protect.add_argument(
        "source",
        metavar="SOURCE",
        help="digits, digits-photos, a TFDS name, an image folder, .npz, .npy pair or others, see docs/data-sets.md",
    )
    protect.add_argument("--out", type=Path, required=True, help="release folder to make")
    protect.add_argument(
        "--key",
        type=Path,
        action="append",
        help="key folder: made if it is not there; repeat it for several authorized networks",
    )
    protect.add_argument(
        "--reuse-key", action="store_true",
        help="make another release with a key that has made one. Both show the same anchors, stripes and subspaces: "
        "what somebody learns of the key from one holds for the other. A partner with the key reads both. Never do it "
        "with images that others gave you",
    )  # fmt: skip
    _passphrase(protect, " or shall have where it is made")
    _subset(protect)
    protect.add_argument(
        "--subset-seed", type=natural, help="draw subsets by this seed, so that several releases are of the same images"
    )
    protect.add_argument("--seed", type=natural, help="derive the key from this seed: reproducible, hence guessable")
    protect.add_argument("--save-images", action="store_true", help="also write images/<index>.png")
    _again(protect)
    _batch(protect, "of the perturbation")
    _log(protect)
    _processes(protect)
    add_method(protect)

    apply = commands.add_parser("apply", help="protect images that a generator never saw, without training")
    apply.add_argument("generator", type=Path, metavar="GENERATOR", help="KEY/generators/NAME, as protect names it")
    apply.add_argument("source", metavar="IMAGES", help="as SOURCE of protect; its classes are known by their names")
    apply.add_argument("--out", type=Path, required=True, help="release folder to make")
    _passphrase(apply)
    _subset(apply)
    _again(apply)
    apply.add_argument("--save-images", action="store_true", help="also write images/<index>.png")

    train = commands.add_parser("train", help="the partner's call: train the authorized network on a release")
    train.add_argument("release", type=Path, metavar="RELEASE", help="release folder")
    train.add_argument("--key", type=Path, required=True, help="key folder")
    _passphrase(train)
    train.add_argument("--out", type=Path, required=True, help="folder for the trained network; resumes what is there")
    train.add_argument("--epochs", type=positive, help="of the training (default: as the key's recipe says)")
    train.add_argument("--augment", action="store_true", help="random crops and flips")
    _batch(train, "of the training")
    train.add_argument("--test", help="clean test images, as for SOURCE, to report accuracy on")
    train.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    _log(train)

    evaluate = commands.add_parser("evaluate", help="train the authorized network and hackers on both image sets")
    evaluate.add_argument("release", type=Path, metavar="RELEASE", help="release folder")
    evaluate.add_argument("--key", type=Path, required=True, help="key folder")
    _passphrase(evaluate)
    _evaluation(evaluate)
    evaluate.add_argument(
        "--distillation", help="also train students of the authorized network; comma-separated, see `ugejax list`"
    )

    attack = commands.add_parser("attack", help="the hacker's call: train on a release without the key")
    attack.add_argument("release", type=Path, metavar="RELEASE", help="release folder")
    _evaluation(attack)

    arena = commands.add_parser(
        "arena", help="compare methods, countermeasures, networks and seeds; make a leaderboard"
    )
    arena.add_argument("source", metavar="SOURCE", help="as for protect")
    arena.add_argument("--out", type=Path, required=True, help="folder of the arena; a grid that is there may grow")
    arena.add_argument("--methods", required=True, help="uge and baselines, comma-separated; see `ugejax list`")
    arena.add_argument(
        "--countermeasures", default="none",
        help="comma-separated, those of one hacker joined by +; see `ugejax list` (default none)",
    )  # fmt: skip
    arena.add_argument("--networks", default="cnn", help="of the hackers, comma-separated (default cnn)")
    arena.add_argument(
        "--seeds",
        type=positive,
        default=1,
        help="protections by each method, each with trainings of its own (default 1)",
    )
    arena.add_argument("--authorized-network", default="cnn", help="backbone of uge's authorized network (default cnn)")
    _subset(arena)
    arena.add_argument("--eps", type=fraction, help="L-infinity budget, such as 8/255 (default: each method's own)")
    arena.add_argument(
        "--set", action="append", default=[], metavar="BASELINE.NAME=VALUE", help="a setting, such as em.rounds=20"
    )
    arena.add_argument("--epochs", type=positive, help="epochs without augmentation (default: each network's own)")
    arena.add_argument(
        "--jobs", type=positive, default=1,
        help="trainings side by side, each in a process with its share of the cores; on a CPU another number of cores "
        "gives other last digits (default 1)",
    )  # fmt: skip
    _cache(arena)

    verify = commands.add_parser("verify", help="re-read a release and check all that can be checked")
    verify.add_argument("release", type=Path, metavar="RELEASE", help="release folder")
    verify.add_argument("--key", type=Path, help="check that the release is this key's and holds nothing of it")
    _passphrase(verify)
    verify.add_argument("--originals", help="the source of the originals, or `card` for the one that the card names")
    verify.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    verify.add_argument("--out", type=Path, help="also write the checks as JSON to this file")

    report = commands.add_parser("report", help="make a page of an evaluation, or print an arena's leaderboard")
    report.add_argument("run", type=Path, metavar="RUN", help="folder with results.json")

    imported = commands.add_parser("import", help="make a release of a protected set that another tool wrote")
    imported.add_argument("kind", metavar="KIND", help="its form: see `ugejax list`")
    imported.add_argument("path", metavar="FILE_OR_FOLDER", help="the set; npy also takes IMAGES.npy,LABELS.npy")
    imported.add_argument(
        "--originals", dest="source", metavar="SOURCE", required=True, help="its originals, as for protect"
    )
    imported.add_argument("--labels", type=Path, help="labels that came with it, to be checked: .npy, .txt or .csv")
    imported.add_argument("--out", type=Path, required=True, help="release folder to make")
    _subset(imported)
    imported.add_argument(
        "--seed", type=natural, default=0, help="of the subset; a release has its in the card (default 0)"
    )

    exported = commands.add_parser("export", help="write a release in the form of another tool")
    exported.add_argument("release", type=Path, metavar="RELEASE", help="release folder")
    exported.add_argument("kind", metavar="KIND", help="see `ugejax list`")
    exported.add_argument("--out", type=Path, required=True, help="file or folder to make")
    exported.add_argument("--originals", help="for noise: source of the originals, if they have moved")
    exported.add_argument("--data-dir", help="folder of prepared TFDS data sets")

    exported_key = commands.add_parser("export-key", help="write a key's secret part for PyTorch")
    exported_key.add_argument("key", type=Path, metavar="KEY", help="key folder")
    exported_key.add_argument(
        "--out", type=Path, required=True,
        help="safetensors file to make, as private as the key; beside it a module of that name, .py, which reads it",
    )  # fmt: skip
    exported_key.add_argument(
        "--release", type=Path, help="the release whose images it shall see (default: the one that the key has made)"
    )
    _passphrase(exported_key)

    key = commands.add_parser("key", help="show a key, or hand it to a partner, encrypted to his public key")
    actions = key.add_subparsers(dest="action", required=True, parser_class=Parser, metavar="ACTION")
    show = actions.add_parser("show", help="say what a key is, and for which release; never the secret")
    show.add_argument("key", type=Path, metavar="KEY", help="key folder; one with a passphrase is shown without it")
    show.add_argument("--json", action="store_true", help="as JSON, for programs")
    identity = actions.add_parser(
        "identity", help="the partner's first step: make an identity and print its public key"
    )
    identity.add_argument("--out", type=Path, required=True, help="file to make, to be kept private; as age-keygen's")
    send = actions.add_parser("send", help="encrypt a key to a public key, for any channel")
    send.add_argument("key", type=Path, metavar="KEY", help="key folder")
    send.add_argument("--to", action="append", required=True, metavar="age1...", help="public key; may be repeated")
    send.add_argument("--out", type=Path, required=True, help="file to make")
    _passphrase(send)
    receive = actions.add_parser("receive", help="make a key folder of what was sent")
    receive.add_argument("file", type=Path, metavar="FILE", help="as `ugejax key send` made it")
    receive.add_argument("--identity", type=Path, required=True, help="file of `ugejax key identity` or age-keygen")
    receive.add_argument("--out", type=Path, required=True, help="key folder to make")
    _passphrase(receive, " here, or shall have")

    passphrase = commands.add_parser(
        "passphrase", help="encrypt a key by a passphrase, change it, or take it away",
        description="Encrypt a key folder by a passphrase, change the passphrase, or take it away. What lay there "
        "readable before may still be found on disk: a key is never readable if `ugejax protect` makes it with a "
        "passphrase.",
    )  # fmt: skip
    passphrase.add_argument("key", type=Path, metavar="KEY", help="key folder")
    _passphrase(passphrase)
    new = passphrase.add_mutually_exclusive_group()
    new.add_argument(
        "--new-passphrase-file", type=Path, metavar="FILE",
        help="file with the new passphrase, one line (default: typed twice in a terminal)",
    )  # fmt: skip
    new.add_argument("--remove", action="store_true", help="leave the key without a passphrase")

    listing = commands.add_parser(
        "list", help="list networks, authorized forms, countermeasures, methods and exchange forms"
    )
    listing.add_argument("kind", nargs="?", metavar="KIND", help="of these alone (default: all)")
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")
    _describe(commands)
    _describe(actions)
    return parser


def _describe(commands: argparse._SubParsersAction) -> None:
    """Let the --help of a command that has no description begin with its line in the list of commands."""
    for listed in commands._choices_actions:
        command = commands.choices[listed.dest]
        said = str(listed.help)
        command.description = command.description or f"{said[0].upper()}{said[1:]}."


def flags(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What is written on the command line for each argument, by its name in what is parsed; of all commands.

    A command's word, such as KEY, stands for an argument that has a flag nowhere.
    """
    words, found = {}, {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                own = flags(command)
                found |= {name: flag for name, flag in own.items() if flag.startswith("-")}
                words |= {name: word for name, word in own.items() if not word.startswith("-")}
        elif action.option_strings:
            found[action.dest] = action.option_strings[-1]
        else:
            words[action.dest] = str(action.metavar or action.dest)
    return words | found


def add_method(parser: argparse.ArgumentParser) -> None:
    """The settings of the method; defaults are those of `ugejax.uge.Method`."""
    parser.add_argument("--method", default="uge", help="uge, or a baseline: see `ugejax list` (default %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of a baseline, such as rounds=20"
    )
    parser.add_argument(
        "--authorized", metavar="FORM", default="keyed-dither",
        help="authorized form: see `ugejax list`, or PACKAGE.MODULE:FORM of your own (default %(default)s); one for "
        "all keys, or comma-separated one for each",
    )  # fmt: skip
    parser.add_argument(
        "--dither-step", type=step,
        help="step of the quantiser in grey levels, of a form that has one (default 3 eps, beyond 24 levels 2 eps; "
        "none with --norm l2)",
    )  # fmt: skip
    parser.add_argument(
        "--network", default="cnn",
        help="backbone of the authorized network (default %(default)s); one for all keys, or one for each",
    )  # fmt: skip
    parser.add_argument("--epochs", type=positive, help="epochs of the authorized network's training")
    group = parser.add_argument_group("perturbation", "what is not given is set by the defaults of the form")
    group.add_argument(
        "--strength", choices=list(STRENGTHS),
        help="strong: a budget of 16/255 and patterns all over the image, where the change may show (default standard)",
    )  # fmt: skip
    group.add_argument("--eps", type=fraction, help="budget, such as 8/255 (default)")
    group.add_argument("--norm", choices=CHOICES["norm"], help="norm of the budget (default linf)")
    group.add_argument(
        "--parametrisation", choices=CHOICES["parametrisation"],
        help="a texture for each class or for each image, a network that writes it, or small patterns at secret places "
        "over a texture for each class, a few or in layers (default codes with keyed-dither, class-wise with other "
        "forms)",
    )  # fmt: skip
    group.add_argument("--code-side", type=positive, help="side of a code's patterns in pixels (default 4)")
    group.add_argument("--code-patterns", type=positive, help="patterns of a class (default 1)")
    group.add_argument("--code-share", type=weight, help="share of the code's tiles that are laid (default 0.15)")
    group.add_argument("--code-cell", type=positive, help="side of the squares that a pattern is made of (default 1)")
    group.add_argument("--start", choices=CHOICES["start"], help="what the perturbation starts from")
    group.add_argument("--period", type=positive, help="period of the stripes in pixels, the middle one of five")
    group.add_argument("--perturbation-epochs", type=natural, help="passes of the update; 0 keeps the start")
    group.add_argument("--step-size", type=weight, help="signed-gradient step as a share of eps")
    group.add_argument("--gradient-matching", type=weight, help="weight of the gradient matching")
    group.add_argument("--gradient-distance", choices=CHOICES["gradient_distance"], help="of the gradient matching")
    group.add_argument("--feature-distance", type=weight, help="weight of the feature distance")
    group.add_argument("--feature-loss", choices=CHOICES["feature_loss"], help="form of the feature distance")
    group.add_argument("--undistillation", type=weight, help="weight of the undistillation")
    group.add_argument("--temperature", type=weight, help="of the soft answers in the undistillation")
    group.add_argument(
        "--term", action="append", default=[], type=function, metavar="PACKAGE.MODULE:FUNCTION",
        help="a term of the loss of your own, a function as docs/own-losses.md says or a ugejax.terms.Term; can be "
        "given several times",
    )  # fmt: skip
    group.add_argument("--surrogates", help="networks that train along with the perturbation, comma-separated")
    group.add_argument(
        "--feature-space", type=Path,
        help="measure the feature distance in this encoder: CLIP's image tower or DINOv2 as a safetensors file or "
        "Hugging Face folder, or .npz of a CIFAR ResNet; nothing is downloaded",
    )  # fmt: skip
    group.add_argument("--prototypes", type=Path, help="each class as a point of that space, .npy (default: means)")
    group.add_argument(
        "--snapshots", type=positive, help="how many sets of weights to take from the authorized network's training"
    )
    group.add_argument("--transforms", help="one of these in each update, comma-separated, or none (default crop-flip)")


def _subset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--n-train", type=positive, help="take a stratified subset of this size")
    parser.add_argument("--n-test", type=positive, help="clean test images to remember or hold out")
    parser.add_argument("--image-size", type=positive, help="scale and crop images to squares of this side")
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, in place of refusing all",
    )


def _again(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--again", action="store_true", help="protect what was protected already: SOURCE lies in a release"
    )


def _passphrase(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help=f"file with the passphrase that the key has{more}, one line (default $UGEJAX_PASSPHRASE; asked for in a "
        "terminal where a key needs it)",
    )  # fmt: skip


def _batch(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--batch-size", type=positive, metavar="N",
        help=f"at most this many images in a step {what}, where a recipe has more; another number gives another "
        "result, which names it",
    )  # fmt: skip
    parser.add_argument(
        "--auto-batch", action="store_true",
        help="if a step needs more memory than the device has, halve --batch-size until it fits; what is done stays",
    )  # fmt: skip


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-json", type=Path, metavar="FILE", help="append progress to a file, a JSON object a line")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER",
        help="write losses and accuracies by epoch to a folder, as TensorBoard's scalars (extra: tensorboard)",
    )  # fmt: skip


def _processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "several processes", "the same command on each host, with --out and --key on a file system that all share"
    )
    group.add_argument(
        "--distributed", action="store_true", help="find the others by SLURM, Open MPI, Kubernetes or Cloud TPU"
    )
    group.add_argument(
        "--coordinator", type=address, metavar="HOST:PORT", help="of process 0, where no scheduler tells it"
    )
    group.add_argument("--processes", type=positive, metavar="N", help="how many there are")
    group.add_argument("--process", type=natural, metavar="I", help="number of this one, from 0")


def _cache(parser: argparse.ArgumentParser) -> None:
    _log(parser)
    parser.add_argument(
        "--cache", type=Path, help="folder of finished trials (default $UGEJAX_CACHE or ~/.cache/ugejax/trials)"
    )


def _evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and the pictures")
    parser.add_argument(
        "--hackers", default=None,
        help="comma-separated networks of `ugejax list`, each also with -other-init, and wrong-key (default: cnn, "
        "cnn-other-init, cnn-nonorm, mlp, res-tiny and, where there is a key, wrong-key)",
    )  # fmt: skip
    parser.add_argument(
        "--countermeasures", default="none",
        help="comma-separated, those of one hacker joined by +; see `ugejax list` (default none)",
    )  # fmt: skip
    parser.add_argument(
        "--purifier", type=function, metavar="PACKAGE.MODULE:FUNCTION",
        help="add the countermeasure purifier: uint8 images [N,H,W,C] in, uint8 or float32 images in [0, 1] out",
    )  # fmt: skip
    parser.add_argument(
        "--init", action="append", default=[], metavar="NETWORK=FILE",
        help="add the countermeasure pretrained: networks of that name begin with weights from a safetensors file of "
        "`ugejax.networks.write_weights`, with a new head; may be given several times",
    )  # fmt: skip
    parser.add_argument("--epochs", type=positive, help="epochs without augmentation (default: each network's own)")
    parser.add_argument("--seeds", type=positive, default=1, help="trials of each row (default 1)")
    _batch(parser, "of a training")
    parser.add_argument("--test", help="clean test images, where the release's source has none")
    parser.add_argument("--originals", help="source of the originals, if they have moved")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    _cache(parser)
