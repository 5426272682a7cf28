"""`ugejax protect`: originals in, a release and a key out."""

import argparse
import dataclasses
import hashlib
import json
import secrets
import sys
from pathlib import Path

import jax
from rich.console import Console

from ugejax.authorized import FORMS, Key, build_authorized, default_step, new_key, read_key, write_key
from ugejax.cli import baseline
from ugejax.cli.lock import alone_in
from ugejax.cli.progress import Reporter
from ugejax.cli.releasing import check_budget, is_there, publish, source_from
from ugejax.data import Source, Splits, load
from ugejax.errors import UserError
from ugejax.feature_spaces import load_feature_space, read_prototypes
from ugejax.networks import build, variable_shapes
from ugejax.perturbation.update import Method
from ugejax.protect import Protection
from ugejax.training import default_recipe
from ugejax.transforms import parse_transforms

# What whoever relies on a release has to know, in its card.
CLASS_WISE_LIMITS = [
    "The perturbation is class-wise: a hacker who knows the method, estimates the texture of each class from the "
    "release and subtracts it, learns nearly as well as from the originals (counter-measure class-means). It keeps out "
    "who does not know that; it does not keep out who does.",
    "JPEG and other filters undo a part of it.",
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
    _check_folders(arguments.out, arguments.key)
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
    matched = arguments.authorized in FORMS and not FORMS[arguments.authorized].exact
    if "epochs" not in given and (matched or arguments.feature_space is not None):
        given["epochs"] = 15  # what is not blind is matched by optimisation, and features move by it
    if arguments.feature_space is not None:
        if given.setdefault("feature_loss", "distance") != "distance":
            raise UserError(f"--feature-loss {given['feature_loss']}: in a feature space there is a distance alone")
        given.setdefault("surrogates", ())
    elif arguments.prototypes is not None:
        raise UserError("--prototypes: lie in a feature space; name it with --feature-space")
    return Method(**given)


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
    splits = load(source)
    train = splits.train
    shape = tuple(int(side) for side in train.images.shape[1:])
    if fresh:
        key = dataclasses.replace(key, image_shape=shape, num_classes=len(train.class_names))
    elif key.image_shape != shape or key.num_classes != len(train.class_names):
        raise UserError(
            f"--key {folder}: made for {key.num_classes} classes of images {key.image_shape}, {arguments.source} has "
            f"{len(train.class_names)} of {shape}; name a new key folder"
        )
    space = prototypes = None
    if arguments.feature_space is not None:
        space = load_feature_space(arguments.feature_space)
        if arguments.prototypes is not None:
            prototypes = read_prototypes(
                arguments.prototypes, num_classes=len(train.class_names), size=space.size(shape)
            )
    card = _card(method, key, source, splits)
    if space is not None:
        card["feature_space"] = {
            "family": space.family, "sha256": space.sha256,
            "prototypes_sha256": None if prototypes is None else hashlib.sha256(prototypes.tobytes()).hexdigest(),
        }  # fmt: skip
    if is_there(arguments, card, console):
        return
    for name in method.surrogates:
        variable_shapes(name, key.num_classes, shape)  # refuse what cannot take these images before anything is written
    network = build_authorized(key, None if fresh else folder)
    if fresh:
        write_key(folder, key, network.arrays)

    settings = json.dumps(card, sort_keys=True) + hashlib.sha256(train.images.tobytes()).hexdigest()
    work = folder / "runs" / hashlib.sha256(settings.encode()).hexdigest()[:16]
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    job = Protection(
        method, network, key.recipe, key.num_classes, jax.random.key(key.public_seed), key.prng("training"),
        texture_key=key.prng("textures"), feature_space=space, prototypes=prototypes,
    )  # fmt: skip
    with alone_in(work):
        with Reporter(console) as reporter:
            released = job.run(train.images, train.labels, work, reporter.stage)
        publish(arguments, released, train, card, console)
    console.print(f"key {folder}: fingerprint {key.fingerprint}; keep it private")
    if key.from_seed:
        console.print(
            "the key follows from --seed, so whoever guesses the seed has it: leave --seed out for a real release"
        )


def _card(method: Method, key: Key, source: Source, splits: Splits) -> dict:
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
        "n_train": len(splits.train.images),
        "n_test": 0 if splits.test is None else len(splits.test.images),
    }


def _limits(method: Method) -> list[str]:
    if method.parametrisation != "class-wise":
        return []
    return [*CLASS_WISE_LIMITS, STRIPES_LIMIT] if method.start == "stripes" else CLASS_WISE_LIMITS


def _draft_key(arguments: argparse.Namespace, method: Method) -> Key:
    """A new key for images yet to be seen: which subset of them is taken follows from the secret."""
    if arguments.seed is None:
        master, from_seed = secrets.token_bytes(32), False
    else:
        master, from_seed = _master(arguments.seed), True
    return new_key(
        master, form=arguments.authorized, network=arguments.network, image_shape=(1, 1, 1), num_classes=2,
        step=_step(arguments, method), recipe=default_recipe(arguments.network, epochs=arguments.epochs),
        from_seed=from_seed,
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
        if new_key(_master(arguments.seed), **architecture).secret != key.secret:
            raise UserError(
                f"--key {arguments.key}: not made with --seed {arguments.seed}; leave --seed out or name a new folder"
            )
    return key


def _master(seed: int) -> bytes:
    return f"seed {seed}".encode()


def _check_folders(out: Path, key: Path) -> None:
    """Refuse what would mix the private with the public, before anything is written."""
    public, private = out.absolute(), key.absolute()
    if public == private or public in private.parents or private in public.parents:
        raise UserError(f"--key {key}: must lie outside --out {out}, and the other way round: the key is private")
    if key.exists() and not (key / "key.json").exists() and (not key.is_dir() or any(key.iterdir())):
        raise UserError(f"--key {key}: exists and is no key folder; name a new one")
