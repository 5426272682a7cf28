"""`ugejax protect`: originals in, a release and a key out."""

import argparse
import contextlib
import dataclasses
import shutil
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console

from ugejax.app.cli.keys import (
    WantedKey,
    check_folders,
    fitted,
    read_or_draft,
    wanted_keys,
    write_new_keys,
)
from ugejax.app.cli.opening import given_passphrase
from ugejax.app.cli.own import form_names, load_terms
from ugejax.app.cli.progress import Reporter
from ugejax.app.cli.releasing import check_no_release_again, is_there, publish, say_what_was_found
from ugejax.app.cli.sources import source_from
from ugejax.app.files import private
from ugejax.app.hosts import exchange, from_leader, gathered, in_shares, leads, share
from ugejax.app.keys import Made, build_authorized, check_key_is_free, record_release, seal_of
from ugejax.app.lock import alone_in
from ugejax.app.protection import Partner, Protection, check_budget, method_of, run_digest
from ugejax.app.release import Quality, measure_quality, salt_of
from ugejax.app.release.card import describe_anchors, describe_space, make_card
from ugejax.app.release.read import read_card
from ugejax.app.seal import check_passphrase
from ugejax.app.shards import ImageShards
from ugejax.app.stored_generator import StoredGenerator, write_generator
from ugejax.authorized import Key
from ugejax.data import Source, Streamed, load_stream
from ugejax.errors import UserError
from ugejax.feature_spaces import FeatureSpace, load_feature_space, read_prototypes
from ugejax.networks import build
from ugejax.perturbations.method import Method
from ugejax.perturbations.parametrisation import GeneratorState
from ugejax.terms import terms_of
from ugejax.transforms import parse_transforms
from ugejax.views import default_step, share_of_budget

_NAME = 16  # digits of a run's digest that name its folder


def run(arguments: argparse.Namespace, console: Console | None = None) -> int:
    """Protect a source, or say that it is done already; on standard output, or on a console."""
    console = console or Console(file=sys.stdout, soft_wrap=True, quiet=not leads())
    if arguments.method != "uge":
        from ugejax.app.cli import baseline  # here, since the baselines take a while to import

        return baseline.run(arguments, console)
    if arguments.set:
        raise UserError("--set: for baselines; the settings of uge are options of their own")
    if arguments.key is None:
        raise UserError("--key: name the private folder that shall hold the key")
    if arguments.auto_batch and (arguments.out / "card.json").is_file():
        arguments.batch_size = read_card(arguments.out).get("settings", {}).get("batch_size")  # what fitted then
    check_no_release_again(arguments)
    forms, method = form_names(arguments.authorized), method_from(arguments)
    check_budget(method.eps, method.norm)
    if method.norm == "l2" and arguments.dither_step is None and any(default_step(form, method.eps) for form in forms):
        raise UserError("--dither-step: has a default for --norm linf alone; give the quantiser's step in grey levels")
    wanted = wanted_keys(arguments.key, forms, arguments.network, step=arguments.dither_step, eps=method.eps)
    if len(wanted) > 1 and method.parametrisation == "generator":
        raise UserError("--parametrisation generator: is stored with its key; name one --key")
    for name in method.surrogates:
        build(name, 2)
    if leads():
        for one in wanted:
            check_folders(arguments.out, one.folder)
    protect(arguments, method, wanted, console)
    return 0


def method_from(arguments: argparse.Namespace) -> Method:
    """The method that the arguments describe: its defaults, changed where an argument was given."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Method)
        if getattr(arguments, field.name, None) is not None
    }
    given.pop("epochs", None)  # --epochs is the authorized network's
    if arguments.batch_size is not None:
        given["batch_size"] = min(arguments.batch_size, Method.batch_size)
    if arguments.perturbation_epochs is not None:
        given["epochs"] = arguments.perturbation_epochs
    if arguments.surrogates is not None:
        given["surrogates"] = tuple(name.strip() for name in arguments.surrogates.split(",") if name.strip())
    if arguments.transforms is not None:
        given["transforms"] = parse_transforms(arguments.transforms, "transforms")
    if given.get("surrogates") == ():
        raise UserError("--surrogates: names no network")
    if given.get("parametrisation") == "generator" and "step_size" in given:
        raise UserError("--step-size: a generator is trained by Adam; leave it out")
    if arguments.term:
        given.setdefault("epochs", 15)  # a term is descended
    if arguments.feature_space is not None:
        given.setdefault("epochs", 15)  # features move by optimisation
        if given.setdefault("feature_loss", "distance") != "distance":
            raise UserError(f"--feature-loss {given['feature_loss']}: in a feature space there is a distance alone")
        given.setdefault("surrogates", ())
    elif arguments.prototypes is not None:
        raise UserError("--prototypes: lie in a feature space; name it with --feature-space")
    method = method_of(form_names(arguments.authorized), arguments.strength or "standard", **given)
    if arguments.period is not None and method.start != "stripes":
        raise UserError(f"--period: is of --start stripes, not of {method.start}; leave it out")
    return method


def protect(arguments: argparse.Namespace, method: Method, wanted: list[WantedKey], console: Console) -> None:
    """Protect; everything that the release depends on is in the arguments, the originals and the keys.

    Of several processes the one that leads makes keys and folders before any other looks for them, since a file system
    over a network may remember for a while that something was not there, and it alone publishes. Checks, generation and
    figures are shared out by images.
    """
    fresh = [one for one in wanted if not one.exists] if leads() else []
    passphrase = given_passphrase(arguments.passphrase_file) if fresh else None
    if passphrase is not None:
        check_passphrase(passphrase)  # before anything is read
    keys = [read_or_draft(one, arguments) for one in wanted] if leads() else []
    seed = from_leader(lambda: keys[0].public_seed)
    source = source_from(arguments, seed if arguments.subset_seed is None else arguments.subset_seed)
    began = time.monotonic()
    train = load_stream(source, of_each=in_shares)
    seconds = time.monotonic() - began
    space, prototypes = _feature_space(arguments, len(train.class_names), train.images.image_shape)
    terms, told = load_terms(arguments.term)
    described, there = describe_space(space, prototypes) | ({"terms": told} if told else {}), False
    if leads():
        keys = [
            fitted(one, key, train, arguments.source, locked=passphrase is not None)
            for one, key in zip(wanted, keys, strict=True)
        ]
        run, card = _described(method, keys, source, train, described)
        there = is_there(arguments, card, console)
        if not there:
            for one in wanted:
                check_key_is_free(one.folder, run, reuse=arguments.reuse_key)
            write_new_keys(method, wanted, keys, passphrase)
            say_what_was_found(source, train, console, None if method.epochs else seconds)
    if from_leader(lambda: there):
        return
    keys = keys or [read_or_draft(one, arguments) for one in wanted]
    run, card = _described(method, keys, source, train, described)
    networks = [
        build_authorized(key, one.folder).of_release(salt_of(card)) for one, key in zip(wanted, keys, strict=True)
    ]
    if from_leader(lambda: run) != run:
        raise UserError("this process has other settings or other images than process 0; give all the same command")
    # The trajectories are the same whatever the batches of the perturbation are.
    same = dataclasses.replace(method, batch_size=Method.batch_size)
    trained = run_digest(same, keys, train.images, train.labels, described)[:_NAME]
    name = run[:_NAME]
    work = wanted[0].folder / "runs" / name
    folders = dict.fromkeys([work, *(one.folder / "runs" / trained for one in wanted)])
    if leads():
        with private():
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
    partners = []
    for one, key, network in zip(wanted, keys, networks, strict=True):
        own = one.folder / "runs" / trained, seal_of(key) / "runs" / trained
        partners.append(Partner(network, key.recipe, key.prng("training"), *own))
    job = dataclasses.replace(
        Protection.by(keys[0], networks[0], method), others=tuple(partners[1:]), feature_space=space,
        prototypes=prototypes, terms=(*terms_of(method), *terms) if terms else None,
    )  # fmt: skip
    generator, seal = wanted[0].folder / "generators" / name, seal_of(keys[0])
    with contextlib.ExitStack() as alone:
        for folder in folders if leads() else ():
            alone.enter_context(alone_in(folder))
        if seal.required and leads():
            # Images that another put there must not come into the release, and these are not encrypted.
            shutil.rmtree(work / "released", ignore_errors=True)
        exchange()
        with Reporter(console) as reporter:
            noise = job.learn(
                train.images, train.labels, work, reporter.stage, seal=seal / "runs" / name, first=partners[0]
            )  # fmt: skip
            if isinstance(noise, GeneratorState) and leads():
                stored = StoredGenerator(method, train.class_names, keys[0].fingerprint, noise)
                write_generator(generator, stored, seal / "generators" / name)
            released = ImageShards(work / "released", train.images.shape)
            for gap in released.missing(share(len(released))):
                released.write(gap.start, job.released(train.images, train.labels, noise, reporter.stage, part=gap))
        own = measure_quality(released, train.images, share(len(released)))
        quality = Quality(*(gathered(figure) for figure in dataclasses.astuple(own)))
        if leads():
            if released.missing():
                raise UserError(f"--key {wanted[0].folder}: must lie on a file system that all processes share")
            for one in wanted:
                check_key_is_free(one.folder, run, reuse=arguments.reuse_key)
                record_release(one.folder, Made(run, card["salt"], arguments.out.absolute().name))
            publish(arguments, released, train, card | describe_anchors(networks, released), console, quality)
            released.remove()
    for one, key in zip(wanted, keys, strict=True):
        console.print(f"key {one.folder}: fingerprint {key.fingerprint}; keep it private")
    steps = [key.step for key in keys if key.step]
    if len(steps) > 1 and method.norm == "linf":
        room = share_of_budget(steps, max(1, round(255 * method.eps)))
        console.print(
            f"the cells of {len(steps)} keys leave the perturbation {room:.0%} of its budget on average; a wider "
            "--dither-step leaves more and costs the authorized networks more",
            highlight=False,
        )
    if isinstance(noise, GeneratorState):
        console.print(f"generator {generator}: protects new images by `ugejax apply`; as private as the key")
    if any(key.from_seed for key in keys):
        console.print(
            "the key follows from --seed, so whoever guesses the seed has it: leave --seed out for a real release"
        )


def _described(
    method: Method, keys: list[Key], source: Source, train: Streamed, space: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The digest of what the release is made from, wherever it lies, and what its card says before it is made."""
    run = run_digest(method, keys, train.images, train.labels, space)
    return run, make_card(method, keys, source, train, keys[0].release_salt(run)) | space


def _feature_space(
    arguments: argparse.Namespace, num_classes: int, shape: tuple[int, int, int]
) -> tuple[FeatureSpace | None, np.ndarray | None]:
    """The feature space that a user named, and the prototypes in it."""
    if arguments.feature_space is None:
        return None, None
    space = load_feature_space(arguments.feature_space)
    if arguments.prototypes is None:
        return space, None
    return space, read_prototypes(arguments.prototypes, num_classes=num_classes, size=space.size(shape))
