"""`ugejax passphrase`: encrypt a key by a passphrase, change it, or take it away."""

import argparse
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ugejax.app.checkpoint import StepCheckpoints, seal_tree
from ugejax.app.cli.opening import ask_passphrase, open_key, read_passphrase
from ugejax.app.keys import build_authorized, has_passphrase, seal_of, set_passphrase
from ugejax.app.lock import alone_in
from ugejax.app.noise_files import seal_rows
from ugejax.app.seal import Seal, check_passphrase
from ugejax.app.stored_generator import seal_description
from ugejax.authorized import Key
from ugejax.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Set the passphrase of a key folder; a kill leaves the key as it was, and the same command goes on from there."""
    folder, had = arguments.key, has_passphrase(arguments.key)
    if arguments.remove and not had:
        raise UserError(f"--remove: key {folder} has no passphrase")
    key = open_key(folder, arguments.passphrase_file)
    passphrase = None if arguments.remove else _new_passphrase(arguments.new_passphrase_file)
    if passphrase is not None:
        check_passphrase(passphrase)  # before anything is changed
    with contextlib.ExitStack() as alone:
        for work in folder.glob("runs/*"):
            alone.enter_context(alone_in(work))
        if had:
            _check_all_sealed(folder, key)
        if passphrase is not None:
            build_authorized(key, folder)  # refuse what is damaged before anything is changed
        if passphrase is not None and not had:
            _seal(folder, key)
        set_passphrase(folder, key, passphrase)
    now = "without a passphrase" if passphrase is None else "with a new passphrase" if had else "encrypted"
    print(f"key {folder}: {now} from now on")
    return 0


def _new_passphrase(file: Path | None) -> str:
    if file is not None:
        return read_passphrase(file, "--new-passphrase-file")
    otherwise = "--new-passphrase-file: name the file of the passphrase that the key shall have"
    typed = ask_passphrase("New passphrase", otherwise)
    if ask_passphrase("The same again", otherwise) != typed:
        raise UserError("the two passphrases differ; nothing was changed")
    return typed


def _seal(folder: Path, key: Key) -> None:
    """Encrypt all that tells of the secret, file by file; in between each can be read in one form or the other.

    Nothing that is not encrypted is taken any more once key.json is, which is the last of all.
    """
    for generator in folder.glob("generators/.*"):
        shutil.rmtree(generator)  # what a killed run left of one
    for path, seal in _trees(folder, key):
        seal_tree(path, seal)
    for generator in folder.glob("generators/*"):
        seal_description(generator, seal_of(key) / "generators" / generator.name)
    for rows in folder.glob("runs/*/noise-files"):
        seal_rows(rows, key.image_shape, seal_of(key) / "runs" / rows.parent.name / "noise-files")


def _check_all_sealed(folder: Path, key: Key) -> None:
    """Refuse what is not encrypted: the owner's is, and what another has put there must not become his."""
    for path, _ in _trees(folder, key):
        seal_of(key).check_plain(path)
    for file in (*folder.glob("runs/*/noise-files/*.f32"), *folder.glob("generators/*/generator.json")):
        seal_of(key).check_plain(file)


def _trees(folder: Path, key: Key) -> Iterator[tuple[Path, Seal]]:
    """The checkpoints of a key's folder that are not encrypted, if they are there, with the seals of their places."""
    yield folder / "network", seal_of(key) / "network"
    for generator in folder.glob("generators/*"):
        yield generator / "weights", seal_of(key) / "generators" / generator.name
    for work in folder.glob("runs/*"):
        for steps in ("trajectory", "noise"):
            if (work / steps).is_dir():
                for step in StepCheckpoints(work / steps, keep=None).steps():
                    yield work / steps / str(step), seal_of(key) / "runs" / work.name / steps / str(step)
