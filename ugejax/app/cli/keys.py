"""The keys that `ugejax protect` names: which are there already, and what new ones are made from."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from ugejax.app.cli.opening import open_key
from ugejax.app.cli.releasing import check_no_release
from ugejax.app.keys import build_authorized, write_key
from ugejax.app.protection import check_makes_releases
from ugejax.authorized import Key, draw_master, new_key
from ugejax.data import Streamed
from ugejax.errors import UserError
from ugejax.networks import build, variable_shapes
from ugejax.perturbations.method import Method
from ugejax.training import default_recipe
from ugejax.views import default_step, shared_blind_set


@dataclass(frozen=True)
class WantedKey:
    """One `--key` and what the command line says of it: its place among the keys, its form, backbone and step."""

    place: int
    folder: Path
    form: str
    network: str
    step: int | None

    @property
    def exists(self) -> bool:
        """Whether the key is there already."""
        return (self.folder / "key.json").exists()


def wanted_keys(
    folders: list[Path], forms: list[str], network: str, *, step: int | None, eps: float
) -> list[WantedKey]:
    """The keys that the command line names.

    Args:
        folders: one for each `--key`.
        forms: name of the form of all keys, or one for each.
        network: backbone of all keys, or comma-separated one for each.
        step: of the quantiser in grey levels, for the forms that have one; None for their default.
        eps: budget in units of [0, 1].

    Raises:
        UserError: one is named twice or lies in another, there are not as many forms or networks, or a network is
            unknown.
    """
    places = [folder.absolute() for folder in folders]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"--key {folders[i]}: is named twice")
        if any(other in place.parents for other in places):
            raise UserError(f"--key {folders[i]}: must not lie in another key's folder: each is private")
    forms = _one_each(forms, len(folders), "--authorized")
    networks = _one_each([name.strip() for name in network.split(",")], len(folders), "--network")
    for name in networks:
        build(name, 2)  # refuse unknown names before anything is read or written
    steps = [default_step(form, eps) for form in forms]
    if step is not None:
        if not any(steps):
            raise UserError(f"--dither-step: {','.join(dict.fromkeys(forms))} does not quantise; leave it out")
        steps = [default and step for default in steps]
    described = zip(folders, forms, networks, steps, strict=True)
    return [WantedKey(place, *one) for place, one in enumerate(described)]


def _one_each(names: list[str], count: int, option: str) -> list[str]:
    """One name for each of the keys, from as many or from one for all."""
    if len(names) not in (1, count):
        raise UserError(
            f"{option} {','.join(names)}: names {len(names)} for {count} --key; name one for all or one for each"
        )
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
    check_makes_releases(key)
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
    check_no_release(key, "--key")
    if key.exists() and not (key / "key.json").exists() and (not key.is_dir() or any(key.iterdir())):
        raise UserError(f"--key {key}: exists and is no key folder; name a new one")


def read_or_draft(wanted: WantedKey, arguments: argparse.Namespace) -> Key:
    """The key that is there, or a draft of a new one."""
    if wanted.exists:
        return existing_key(wanted, arguments.seed, arguments.epochs, arguments.passphrase_file)
    return draft_key(wanted, arguments.seed, arguments.epochs)


def fitted(wanted: WantedKey, key: Key, train: Streamed, source: str, *, locked: bool) -> Key:
    """A new key for these images, which has a passphrase or none; one that is there is refused if made for others."""
    shape, num_classes = train.images.image_shape, len(train.class_names)
    if not wanted.exists:
        return replace(key, image_shape=shape, num_classes=num_classes, locked=locked)
    if key.image_shape != shape or key.num_classes != num_classes:
        raise UserError(
            f"--key {wanted.folder}: made for {key.num_classes} classes of images {key.image_shape}, "
            f"{source} has {num_classes} of {shape}; name a new key folder"
        )
    return key


def write_new_keys(method: Method, wanted: list[WantedKey], keys: list[Key], passphrase: str | None) -> None:
    """Write the new ones of the keys, unless something does not go with the method or with the other keys."""
    for name in method.surrogates:
        variable_shapes(name, keys[0].num_classes, keys[0].image_shape)  # refuse what cannot take these images
    new = [not one.exists for one in wanted]
    networks = [
        build_authorized(key, None if fresh else one.folder) for one, key, fresh in zip(wanted, keys, new, strict=True)
    ]
    shared_blind_set([network.view for network in networks])  # refuse forms that share none
    for one, key, network, fresh in zip(wanted, keys, networks, new, strict=True):
        if fresh:
            write_key(one.folder, key, network.arrays, passphrase)
