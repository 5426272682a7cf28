"""`ugejax protect`: originals in, a release and a key out."""

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path

from rich.console import Console

from ugejax.authorized import FORMS, Key, build_authorized, default_step, draw_master, new_key, read_key, write_key
from ugejax.cli import baseline
from ugejax.cli.lock import alone_in
from ugejax.cli.progress import Reporter
from ugejax.cli.releasing import is_there, publish, source_from
from ugejax.data import ImageShards, Source, Streamed, load_stream
from ugejax.errors import UserError
from ugejax.networks import build, variable_shapes
from ugejax.perturbation.parametrisation import GeneratorState
from ugejax.perturbation.stored import StoredGenerator, write_generator
from ugejax.perturbation.update import Method
from ugejax.protect import Protection, check_budget, method_of
from ugejax.training import default_recipe
from ugejax.transforms import parse_transforms

# What whoever relies on a release has to know, in its card.
CLASS_WISE_LIMITS = [
    "The perturbation is class-wise: a hacker who knows the method, estimates the texture of each class from the "
    "release and subtracts it, learns nearly as well as from the originals (counter-measure class-means). It keeps out "
    "who does not know that; it does not keep out who does.",
    "JPEG and other filters undo a part of it.",
]
GENERATOR_LIMITS = [
    "The perturbation comes from a generator that is stored with the key and is as private: it holds the texture of "
    "every class, and tells of any image where the key is blind.",
    "It starts from one texture per class, which a hacker who knows the method estimates and subtracts "
    "(counter-measure class-means); JPEG and other filters undo a part of it.",
]
STRIPES_LIMIT = (
    "A low-pass filter that takes waves of the period of the stripes and shorter away undoes all of it for a small "
    "network."
)


def run(arguments: argparse.Namespace, console: Console | None = None) -> int:
    """Protect a source, or say that it is done already; on standard output, or on a console."""
    console = console or Console(file=sys.stdout, soft_wrap=True)
    if arguments.method != "uge":
        return baseline.run(arguments, console)
    if arguments.set:
        raise UserError("--set: for baselines; the settings of uge are options of their own")
    if arguments.key is None:
        raise UserError("--key: name the private folder that shall hold the key")
    method = method_from(arguments)
    check_budget(method.eps, method.norm)
    if arguments.authorized not in FORMS:
        raise UserError(f"--authorized {arguments.authorized}: unknown form; choose one of {', '.join(FORMS)}")
    build(arguments.network, 2)  # refuse unknown names before anything is read or written
    for name in method.surrogates:
        build(name, 2)
    check_folders(arguments.out, arguments.key)
    protect(arguments, method, console)
    return 0


def method_from(arguments: argparse.Namespace) -> Method:
    """The method that the arguments describe: its defaults, changed where an argument was given."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Method)
        if getattr(arguments, field.name, None) is not None
    }
    given.pop("epochs", None)  # --epochs is the authorized network's
    if arguments.perturbation_epochs is not None:
        given["epochs"] = arguments.perturbation_epochs
    if arguments.surrogates is not None:
        given["surrogates"] = tuple(name.strip() for name in arguments.surrogates.split(",") if name.strip())
    if arguments.transforms is not None:
        given["transforms"] = parse_transforms(arguments.transforms, "--transforms")
    if given.get("surrogates") == ():
        raise UserError("--surrogates: names no network")
    if given.get("parametrisation") == "generator" and "step_size" in given:
        raise UserError("--step-size: a generator is trained by Adam; leave it out")
    method = method_of(arguments.authorized, **given)
    if arguments.period is not None and method.start != "stripes":
        raise UserError(f"--period: is of --start stripes, not of {method.start}; leave it out")
    return method


def _step(arguments: argparse.Namespace, method: Method) -> int | None:
    default = default_step(arguments.authorized, method.eps)
    if default is None and arguments.dither_step is not None:
        raise UserError(f"--dither-step: {arguments.authorized} does not quantise; leave it out")
    return default if arguments.dither_step is None else arguments.dither_step


def protect(arguments: argparse.Namespace, method: Method, console: Console) -> None:
    """Protect; everything that the release depends on is in the arguments, the originals and the key."""
    folder = arguments.key
    fresh = not (folder / "key.json").exists()
    key = _draft_key(arguments, method) if fresh else _existing_key(arguments, method)
    source = source_from(arguments, key.public_seed if arguments.subset_seed is None else arguments.subset_seed)
    train = load_stream(source)
    shape = train.images.image_shape
    if fresh:
        key = dataclasses.replace(key, image_shape=shape, num_classes=len(train.class_names))
    elif key.image_shape != shape or key.num_classes != len(train.class_names):
        raise UserError(
            f"--key {folder}: made for {key.num_classes} classes of images {key.image_shape}, {arguments.source} has "
            f"{len(train.class_names)} of {shape}; name a new key folder"
        )
    card = make_card(method, key, source, train)
    if is_there(arguments, card, console):
        return
    for name in method.surrogates:
        variable_shapes(name, key.num_classes, shape)  # refuse what cannot take these images before anything is written
    network = build_authorized(key, None if fresh else folder)
    if fresh:
        write_key(folder, key, network.arrays)

    settings = json.dumps(card, sort_keys=True) + train.images.digest
    work = folder / "runs" / hashlib.sha256(settings.encode()).hexdigest()[:16]
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    job, generator = Protection.by(key, network, method), folder / "generators" / work.name
    with alone_in(work):
        with Reporter(console) as reporter:
            noise = job.learn(train.images, train.labels, work, reporter.stage)
            if isinstance(noise, GeneratorState):
                write_generator(generator, StoredGenerator(method, train.class_names, key.fingerprint, noise))
            released = ImageShards(work / "released", train.images.shape)
            released.extend(job.released(train.images, train.labels, noise, reporter.stage, start=released.done))
        publish(arguments, released, train, card, console)
        released.remove()
    console.print(f"key {folder}: fingerprint {key.fingerprint}; keep it private")
    if isinstance(noise, GeneratorState):
        console.print(f"generator {generator}: protects new images by `ugejax apply`; as private as the key")
    if key.from_seed:
        console.print(
            "the key follows from --seed, so whoever guesses the seed has it: leave --seed out for a real release"
        )


def make_card(method: Method, key: Key, source: Source, train: Streamed) -> dict:
    """What the card of a release says beside what is measured."""
    return {
        "schema": 1,
        "method": "uge",
        "settings": json.loads(json.dumps(dataclasses.asdict(method))),
        "authorized": {
            "form": key.form,
            "network": key.network,
            "step": key.step,
            "exact_blind_set": FORMS[key.form].exact,
        },
        "eps": method.eps,
        "norm": method.norm,
        "seed": key.public_seed,
        "limits": _limits(method),
        "key_fingerprint": key.fingerprint,
        "key_from_seed": key.from_seed,
        "source": source.to_json(),
        "n_train": len(train.images),
        "n_test": train.n_test,
    }


def _limits(method: Method) -> list[str]:
    if method.parametrisation == "sample-wise":
        return []
    limits = CLASS_WISE_LIMITS if method.parametrisation == "class-wise" else GENERATOR_LIMITS
    return [*limits, STRIPES_LIMIT] if method.start == "stripes" else limits


def _draft_key(arguments: argparse.Namespace, method: Method) -> Key:
    """A new key for images yet to be seen: which subset of them is taken follows from the secret."""
    return new_key(
        draw_master(arguments.seed), form=arguments.authorized, network=arguments.network, image_shape=(1, 1, 1),
        num_classes=2, step=_step(arguments, method), from_seed=arguments.seed is not None,
        recipe=default_recipe(arguments.network, epochs=arguments.epochs),
    )  # fmt: skip


def _existing_key(arguments: argparse.Namespace, method: Method) -> Key:
    key = read_key(arguments.key)
    wanted = {"form": arguments.authorized, "network": arguments.network, "step": _step(arguments, method)}
    for name, value in wanted.items():
        if getattr(key, name) != value:
            raise UserError(
                f"--key {arguments.key}: has {name} {getattr(key, name)}, not {value}; name a new key folder"
            )
    if arguments.epochs is not None and arguments.epochs != key.recipe.epochs:
        raise UserError(
            f"--key {arguments.key}: trains {key.recipe.epochs} epochs; leave --epochs out or name a new key folder"
        )
    if arguments.seed is not None:
        architecture = {name: value for name, value in key.__dict__.items() if name != "secret"}
        if new_key(draw_master(arguments.seed), **architecture).secret != key.secret:
            raise UserError(
                f"--key {arguments.key}: not made with --seed {arguments.seed}; leave --seed out or name a new folder"
            )
    return key


def check_folders(out: Path, key: Path) -> None:
    """Refuse what would mix the private with the public, before anything is written."""
    public, private = out.absolute(), key.absolute()
    if public == private or public in private.parents or private in public.parents:
        raise UserError(f"--key {key}: must lie outside --out {out}, and the other way round: the key is private")
    if key.exists() and not (key / "key.json").exists() and (not key.is_dir() or any(key.iterdir())):
        raise UserError(f"--key {key}: exists and is no key folder; name a new one")
