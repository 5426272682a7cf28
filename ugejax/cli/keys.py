"""The keys that `ugejax protect` names: which are there already, and what new ones are made from."""

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ugejax.authorized import FORMS, Key, default_step, draw_master, has_passphrase, new_key, read_key
from ugejax.errors import UserError
from ugejax.networks import build
from ugejax.training import default_recipe

# Characters of a passphrase: more is another file than was meant.
_LONGEST = 1000


@dataclass(frozen=True)
class WantedKey:
    """One `--key` and what the command line says of it: its place among the keys, its form, backbone and step."""

    place: int
    folder: Path
    form: str
    network: str
    step: int | None


def wanted_keys(folders: list[Path], authorized: str, network: str, *, step: int | None, eps: float) -> list[WantedKey]:
    """The keys that the command line names.

    Args:
        folders: one for each `--key`.
        authorized: form of all keys, or comma-separated one for each.
        network: backbone, likewise.
        step: of the quantiser in grey levels, for the forms that have one; None for their default.
        eps: budget in units of [0, 1].

    Raises:
        UserError: one is named twice or lies in another, there are not as many forms or networks, or one is unknown.
    """
    places = [folder.absolute() for folder in folders]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"--key {folders[i]}: is named twice")
        if any(other in place.parents for other in places):
            raise UserError(f"--key {folders[i]}: must not lie in another key's folder: each is private")
    forms = _one_each(authorized, len(folders), "--authorized")
    networks = _one_each(network, len(folders), "--network")
    for form in forms:
        if form not in FORMS:
            raise UserError(f"--authorized {form}: unknown form; choose one of {', '.join(FORMS)}")
    for name in networks:
        build(name, 2)  # refuse unknown names before anything is read or written
    steps = [default_step(form, eps) for form in forms]
    if step is not None:
        if not any(steps):
            raise UserError(f"--dither-step: {authorized} does not quantise; leave it out")
        steps = [default and step for default in steps]
    described = zip(folders, forms, networks, steps, strict=True)
    return [WantedKey(place, *one) for place, one in enumerate(described)]


def _one_each(text: str, count: int, option: str) -> list[str]:
    """A comma-separated list with one name for each of the keys, or one for all."""
    names = [name.strip() for name in text.split(",")]
    if len(names) not in (1, count):
        raise UserError(f"{option} {text}: names {len(names)} for {count} --key; name one for all or one for each")
    return names if len(names) == count else names * count


def draft_key(wanted: WantedKey, seed: int | None, epochs: int | None) -> Key:
    """A new key for images yet to be seen: which subset of them is taken follows from the secret.

    Args:
        wanted: the key.
        seed: what its secret follows from; None takes the operating system's entropy.
        epochs: of its network's training; None for the network's own.
    """
    return new_key(
        _master(seed, wanted.place), form=wanted.form, network=wanted.network, image_shape=(1, 1, 1), num_classes=2,
        step=wanted.step, recipe=default_recipe(wanted.network, epochs=epochs), from_seed=seed is not None,
    )  # fmt: skip


def existing_key(wanted: WantedKey, seed: int | None, epochs: int | None, passphrase_file: Path | None) -> Key:
    """The key that is there, checked against all that is said of it; see `draft_key` and `open_key` for the arguments.

    Raises:
        UserError: it is damaged, or another.
    """
    folder, key = wanted.folder, open_key(wanted.folder, passphrase_file)
    for name in ("form", "network", "step"):
        if getattr(key, name) != getattr(wanted, name):
            raise UserError(
                f"--key {folder}: has {name} {getattr(key, name)}, not {getattr(wanted, name)}; name a new key folder"
            )
    if epochs is not None and epochs != key.recipe.epochs:
        raise UserError(
            f"--key {folder}: trains {key.recipe.epochs} epochs; leave --epochs out or name a new key folder"
        )
    if seed is not None:
        architecture = {name: value for name, value in key.__dict__.items() if name != "secret"}
        if new_key(_master(seed, wanted.place), **architecture).secret != key.secret:
            raise UserError(f"--key {folder}: not made with --seed {seed}; leave --seed out or name a new folder")
    return key


def _master(seed: int | None, place: int) -> bytes:
    """From what a key is made: of several keys by one seed each has a secret of its own."""
    return draw_master(seed) + (f" key {place + 1}".encode() if place else b"")


def check_folders(out: Path, key: Path) -> None:
    """Refuse what would mix the private with the public, before anything is written."""
    public, private = out.absolute(), key.absolute()
    if public == private or public in private.parents or private in public.parents:
        raise UserError(f"--key {key}: must lie outside --out {out}, and the other way round: the key is private")
    if key.exists() and not (key / "key.json").exists() and (not key.is_dir() or any(key.iterdir())):
        raise UserError(f"--key {key}: exists and is no key folder; name a new one")


def open_key(folder: Path, passphrase_file: Path | None = None) -> Key:
    """The key of a folder.

    Its passphrase, where it has one, is in the file, in $UGEJAX_PASSPHRASE, or typed in a terminal.

    Raises:
        UserError: it is no key or damaged, or the passphrase is missing, wrong, or for a key that has none.
    """
    if passphrase_file is not None and not has_passphrase(folder):
        raise UserError(
            f"--passphrase-file: key {folder} has no passphrase; give it one by `ugejax passphrase {folder}`"
        )
    return read_key(folder, lambda: given_passphrase(passphrase_file) or _typed(folder))


def given_passphrase(file: Path | None) -> str | None:
    """The passphrase in a file, else that in $UGEJAX_PASSPHRASE, else none.

    Raises:
        UserError: the file cannot be read, or holds none.
    """
    return os.environ.get("UGEJAX_PASSPHRASE") or None if file is None else read_passphrase(file, "--passphrase-file")


def read_passphrase(file: Path, option: str) -> str:
    """The one line of a file.

    Raises:
        UserError: it cannot be read, or is no line of text.
    """
    try:
        with open(file, encoding="utf-8") as lines:
            text = lines.read(_LONGEST + 1).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not text or "\n" in text or len(text) > _LONGEST:
        raise UserError(f"{option} {file}: holds no passphrase; write it as the file's one line")
    return text


def ask_passphrase(question: str, otherwise: str) -> str:
    """What somebody types, unseen.

    Raises:
        UserError: there is no terminal, with what to do then; or nothing was typed.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(otherwise)
    typed = getpass.getpass(f"{question}: ")
    if not typed:
        raise UserError("no passphrase was typed")
    return typed


def _typed(folder: Path) -> str:
    otherwise = f"--key {folder}: has a passphrase; give --passphrase-file FILE or set UGEJAX_PASSPHRASE"
    return ask_passphrase(f"Passphrase of {folder}", otherwise)
