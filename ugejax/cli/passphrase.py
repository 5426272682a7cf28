"""`ugejax passphrase`: encrypt a key by a passphrase, change it, or take it away."""

import argparse
import contextlib
import shutil
from pathlib import Path

from ugejax.authorized import Key, build_authorized, has_passphrase, set_passphrase
from ugejax.checkpoint import StepCheckpoints, seal_tree
from ugejax.cli.lock import alone_in
from ugejax.cli.opening import ask_passphrase, open_key, read_passphrase
from ugejax.errors import UserError
from ugejax.perturbation.noise_files import seal_rows


def run(arguments: argparse.Namespace) -> int:
    """Set the passphrase of a key folder; a kill leaves the key as it was, and the same command goes on from there."""
    folder, had = arguments.key, has_passphrase(arguments.key)
    if arguments.remove and not had:
        raise UserError(f"--remove: key {folder} has no passphrase")
    key = open_key(folder, arguments.passphrase_file)
    passphrase = None if arguments.remove else _new_passphrase(arguments.new_passphrase_file)
    with contextlib.ExitStack() as alone:
        for work in folder.glob("runs/*"):
            alone.enter_context(alone_in(work))
        if passphrase is not None:
            build_authorized(key, folder)  # refuse what is damaged before anything is changed
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

    The network goes first: from then on everything that is added is encrypted.
    """
    seal_tree(folder / "network", key.seal / "network")
    for generator in folder.glob("generators/*"):
        if generator.name.startswith("."):
            shutil.rmtree(generator)  # what a killed run left of one
        else:
            seal_tree(generator / "weights", key.seal / "generators" / generator.name)
    for work in folder.glob("runs/*"):
        seal = key.seal / "runs" / work.name
        for steps in ("trajectory", "noise"):
            if (work / steps).is_dir():
                for step in StepCheckpoints(work / steps, keep=None).steps():
                    seal_tree(work / steps / str(step), seal / steps / str(step))
        seal_rows(work / "noise-files", key.image_shape, seal / "noise-files")
