"""`ugejax apply`: a generator protects images that it never saw; a release, and no training."""

import argparse
import sys

import numpy as np
from rich.console import Console

from ugejax.app.cli.keys import check_folders
from ugejax.app.cli.opening import open_key
from ugejax.app.cli.releasing import check_no_release_again, is_there, publish, say_what_was_found
from ugejax.app.cli.sources import source_from
from ugejax.app.keys import build_authorized, seal_of
from ugejax.app.protection import Protection, check_makes_releases, run_digest
from ugejax.app.release.card import describe_anchors, make_card
from ugejax.app.stored_generator import is_generator, read_generator
from ugejax.data import Streamed, load_stream
from ugejax.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Protect a source by a generator, or say that it is done already."""
    console = Console(file=sys.stdout, soft_wrap=True)
    folder = arguments.generator.absolute()
    key_folder = folder.parent.parent
    if not is_generator(folder):
        raise UserError(
            f"{arguments.generator}: no generator; give KEY/generators/NAME, which `ugejax protect --parametrisation "
            "generator` names"
        )
    check_no_release_again(arguments)
    check_folders(arguments.out, key_folder)
    key = open_key(key_folder, arguments.passphrase_file)
    check_makes_releases(key)
    generator = read_generator(folder, key.image_shape, seal_of(key) / "generators" / folder.name)
    if generator.key_fingerprint != key.fingerprint:
        raise UserError(f"{arguments.generator}: was made with another key than {key_folder}")
    source = source_from(arguments, key.public_seed)
    train = load_stream(source)
    if train.images.image_shape != key.image_shape:
        height, width, channels = key.image_shape
        resize = f": give --image-size {height}" if height == width and channels == train.images.shape[-1] else ""
        raise UserError(
            f"{arguments.source}: images are {train.images.image_shape}, those of the key {key.image_shape}{resize}"
        )
    labels = _labels(train, generator.class_names, arguments.source)
    digest = run_digest(generator.method, [key], train.images, labels, {"generator": folder.name})
    salt = key.release_salt(digest)
    card = make_card(generator.method, [key], source, train, salt) | {"generator": folder.name}
    if is_there(arguments, card, console):
        return 0
    say_what_was_found(source, train, console)
    network = build_authorized(key, key_folder).of_release(salt)
    released = Protection.by(key, network, generator.method).release(train.images, labels, generator.state)
    publish(arguments, released, train, card | describe_anchors([network], released), console)
    return 0


def _labels(train: Streamed, known: tuple[str, ...], name: str) -> np.ndarray:
    """The labels as the generator numbers its classes, by their names."""
    for class_name in train.class_names:
        if class_name not in known:
            some = ", ".join(repr(other) for other in known[:5]) + (", ..." if len(known) > 5 else "")
            raise UserError(f"{name}: class {class_name!r} is not one of the generator's ({some})")
    return np.array([known.index(class_name) for class_name in train.class_names], np.int32)[train.labels]
