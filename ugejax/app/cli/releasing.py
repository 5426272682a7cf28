"""What every method of `ugejax protect` does around the protection itself."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

from ugejax.app.cli.found import costs_of, describe, describe_costs
from ugejax.app.release import Quality, write_release
from ugejax.app.release.read import check_hash, read_card
from ugejax.app.release.write import in_a_cell
from ugejax.data import Images, Source, Splits, Streamed, survey
from ugejax.errors import UserError


def is_there(arguments: argparse.Namespace, card: dict, console: Console) -> bool:
    """Whether the release was made already; refuses a folder that holds anything else."""
    out = arguments.out
    if not out.exists():
        return False
    found, card = read_card(out), without_places(card, out)
    for name in ("data.npz", "manifest.csv"):
        check_hash(out, found, name)
    if all(found.get(name) == value for name, value in card.items()):
        if getattr(arguments, "save_images", False) and not (out / "images").exists():
            raise UserError(f"--out {out}: is this release already, without --save-images; remove it or leave that out")
        console.print(f"{out} is this very release already; nothing to do")
        return True
    raise UserError(f"--out {out}: holds another release; name a new folder or remove it")


def publish(
    arguments: argparse.Namespace, released: Images, splits: Splits | Streamed, card: dict, console: Console,
    quality: Quality | None = None,
) -> None:  # fmt: skip
    """Write the release and say how much its images differ; the card also says what of the source is not in it."""
    out, account = arguments.out, splits.account
    train = splits.train if isinstance(splits, Splits) else splits
    write_release(
        out, images=released, labels=train.labels, class_names=train.class_names, originals=train.images,
        card=without_places(card, out) | account.to_card(), quality=quality, save_images=arguments.save_images,
    )  # fmt: skip
    console.print(f"release {out}: {len(released)} images, {describe_psnr(read_card(out))}")
    if account.unprotected:
        console.print(f"{account.unprotected} images of the source are NOT in the release", highlight=False)
    if formulas := [name for name in train.class_names if in_a_cell(name) != name]:
        console.print(
            f"class names that a spreadsheet would run as formulas, such as {formulas[0]!r}, stand behind a ' in "
            "manifest.csv",
            markup=False, highlight=False,
        )  # fmt: skip
    if shared := card.get("equal_anchors"):
        console.print(
            f"{shared} of them are equal to another at the key's anchor pixels and share its dither, so that what is "
            "found out of one holds for the other",
            highlight=False,
        )


def say_what_was_found(
    source: Source, splits: Splits | Streamed, console: Console, seconds: float | None = None
) -> None:
    """Print what the source holds and what its protection costs, before anything long begins.

    Args:
        source: the source.
        splits: what was read of it.
        console: where to.
        seconds: that reading took; None where the defaults' costs are not those of what is done with it.
    """
    # Headers alone: all else is known already, also which images cannot be read.
    seen = survey(dataclasses.replace(source, skip_unreadable=False), quick=True)
    if isinstance(splits, Splits):
        train, n_test = splits.train, 0 if splits.test is None else len(splits.test.images)
    else:
        train, n_test = splits, splits.n_test
    counts = dict(zip(train.class_names, np.bincount(train.labels).tolist(), strict=True))
    seen = dataclasses.replace(seen, account=splits.account, class_counts=counts, n_test=n_test)
    lines = describe(source, seen)
    if seconds is not None:
        lines.append(describe_costs(costs_of(dataclasses.replace(seen, seconds=seconds))))
    for line in lines:
        console.print(line, markup=False, highlight=False)


def check_no_release_again(arguments: argparse.Namespace) -> None:
    """Refuse to protect what was protected already: two releases of the same images tell more than one.

    Raises:
        UserError: the source lies in a release, and nobody has said that it shall be so.
    """
    place = Path(arguments.source.partition(".npy,")[0]).expanduser() if not arguments.again else None
    if place is not None and place.exists() and in_release(place) is not None:
        raise UserError(
            f"{arguments.source}: lies in a release, whose images are protected already; name the originals, or give "
            "--again"
        )


def describe_psnr(card: dict) -> str:
    """How far images are from their originals, for people."""
    mean = card["psnr"]["mean"]
    return "all of them as they were" if mean is None else f"PSNR {mean:.1f} dB on average"


def without_places(card: dict, out: Path) -> dict:
    """The card as everybody may read it: its source is told relative to the release, not where in the owner's files."""
    source = Source.from_json(card["source"])
    return card | {"source": source.seen_from(out).to_json()}


def check_no_release(path: Path, option: str = "--out") -> None:
    """Refuse to write what is private, or merely something else, into a release, which everybody gets.

    Raises:
        UserError: the path is a release, or lies in one.
    """
    if in_release(path) is not None:
        raise UserError(f"{option} {path}: lies in a release, which is public; choose another place")


def in_release(path: Path) -> Path | None:
    """The release that a path is, or lies in; None where there is none."""
    place = path.resolve()
    for folder in (place, *place.parents):
        if (folder / "card.json").exists() and (folder / "manifest.csv").exists():
            return folder
    return None
