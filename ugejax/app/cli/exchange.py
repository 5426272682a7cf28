"""`ugejax import`, `export` and `export-key`: protected sets from and for other tools, and a key for PyTorch."""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import load_originals
from ugejax.app.cli.releasing import check_no_release, describe_psnr, is_there, without_places
from ugejax.app.cli.sources import source_from
from ugejax.app.exchange import EXCHANGE_FORMS, Exported, check_labels, check_protected, read_labels
from ugejax.app.exchange.view_file import write_safetensors
from ugejax.app.files import private, published, synced
from ugejax.app.keys import build_authorized, releases_of
from ugejax.app.release import read_release, write_release
from ugejax.app.release.read import read_card
from ugejax.authorized import AuthorizedNetwork, Key
from ugejax.data import load
from ugejax.errors import UserError

# What whoever relies on such a release has to know, in its card.
IMPORTED_LIMITS = [
    "Made by another tool and imported: eps is the largest change that was measured, not a budget that was declared."
]


def run(arguments: argparse.Namespace) -> int:
    """Import or export a set, or export a key."""
    command = {"import": import_set, "export": export_set, "export-key": export_key}[arguments.command]
    command(arguments, Console(file=sys.stdout, soft_wrap=True))
    return 0


def import_set(arguments: argparse.Namespace, console: Console) -> None:
    """Make a release of a set, or say that it is there already."""
    form = EXCHANGE_FORMS.find(arguments.kind, "kind")
    source = source_from(arguments, arguments.seed)
    splits = load(source)
    imported = form.read(arguments.path, splits)
    labels = [(imported.labels, arguments.path)]
    if arguments.labels is not None:
        labels.append((read_labels(arguments.labels, splits), str(arguments.labels)))
    for found, where in labels:
        if found is not None:
            check_labels(found, splits, where)
    train = splits.train
    check_protected(imported.images, train, arguments.path)
    card = {
        "schema": 1,
        "method": "imported",
        "imported": {"kind": arguments.kind, "sha256": imported.sha256},
        "eps": int(np.abs(imported.images.astype(np.int16) - train.images).max()) / 255,
        "norm": "linf",
        "limits": IMPORTED_LIMITS,
        "seed": arguments.seed,
        "source": source.to_json(),
        "n_train": len(train.images),
        "n_test": 0 if splits.test is None else len(splits.test.images),
    }
    if is_there(arguments, card, console):
        return
    write_release(
        arguments.out, images=imported.images, labels=train.labels, class_names=train.class_names,
        originals=train.images, card=without_places(card, arguments.out) | splits.account.to_card(),
    )  # fmt: skip
    final = read_release(arguments.out).card
    console.print(
        f"release {arguments.out}: {final['n']} images, at most {final['realised_eps']['linf_levels']} grey levels "
        f"from their originals, {describe_psnr(final)}"
    )


def export_set(arguments: argparse.Namespace, console: Console) -> None:
    """Write a release in the form of another tool."""
    form = EXCHANGE_FORMS.find(arguments.kind, "kind")
    if not form.noise and (arguments.originals is not None or arguments.data_dir is not None):
        option = "--originals" if arguments.originals is not None else "--data-dir"
        raise UserError(f"{option}: {arguments.kind} holds whole images and has no use for it; leave it out")
    release = read_release(arguments.release)
    check_no_release(arguments.out)
    originals = None
    if form.noise:
        originals = load_originals(arguments.release, release, arguments.originals, arguments.data_dir).images
    with published(arguments.out) as partial:
        form.write(partial, Exported(release.images, release.labels, release.class_names, originals))
    console.print(f"{arguments.out}: {len(release.images)} images as {arguments.kind}")


def export_key(arguments: argparse.Namespace, console: Console) -> None:
    """Write the frozen secret part of a key as safetensors, and beside it the module that reads it."""
    out, module = arguments.out, arguments.out.with_suffix(".py")
    key = open_key(arguments.key, arguments.passphrase_file)
    export = _network(key, arguments.key, arguments.release).view.export()
    if export is None:
        raise UserError("this key has no secret view: its secret is the network's weights, which its checkpoint holds")
    check_no_release(out)
    if out == module:
        raise UserError(f"--out {out}: is to hold arrays; name a file that ends with .safetensors")
    with private(), published(out) as partial:
        with synced(partial) as file:
            write_safetensors(file, export.arrays, {"form": key.form, "fingerprint": key.fingerprint})
        if export.source is not None:
            _write_module(module, export.source)
    console.print(f"{out}: the secret part of key {key.fingerprint}; keep it as private as the key itself")
    if export.source is not None:
        console.print(f"{module}: sees with it, in PyTorch: SecretView({str(out)!r})", markup=False, highlight=False)


def _write_module(path: Path, source: str) -> None:
    """Write a module, which holds no secret; one that is there already may stay, and anything else is refused."""
    if path.is_file() and path.read_bytes() == source.encode():
        return
    with published(path) as partial, synced(partial) as file:
        file.write(source.encode())


def _network(key: Key, folder: Path, release: Path | None) -> AuthorizedNetwork:
    """The authorized network for a release; by default for the one that the key has made."""
    if release is not None:
        return open_network(key, folder, read_card(release), release)
    network, made = build_authorized(key, folder), releases_of(folder)
    if len(made) == 1:
        return network.of_release(bytes.fromhex(made[0].salt))
    if network.view.salted:
        raise UserError(f"--release: key {folder} has made {len(made)} releases; name the one that it is for")
    return network
