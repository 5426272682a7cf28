"""What every method of `ugejax protect` does around the protection itself."""

import argparse
from pathlib import Path

from rich.console import Console

from ugejax.data import Dataset, Images, Source, Streamed
from ugejax.errors import UserError
from ugejax.release import Quality, write_release
from ugejax.release.read import check_hash, read_card
from ugejax.release.write import in_a_cell


def source_from(arguments: argparse.Namespace, seed: int) -> Source:
    """The source and subset that the arguments name, in a form that holds from any folder."""
    return Source(
        name=arguments.source, data_dir=arguments.data_dir, n_train=arguments.n_train, n_test=arguments.n_test,
        seed=seed, image_size=arguments.image_size,
    ).absolute()  # fmt: skip


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
    arguments: argparse.Namespace, released: Images, train: Dataset | Streamed, card: dict, console: Console,
    quality: Quality | None = None,
) -> None:  # fmt: skip
    """Write the release and say how much its images differ."""
    out = arguments.out
    write_release(
        out, images=released, labels=train.labels, class_names=train.class_names, originals=train.images,
        card=without_places(card, out), quality=quality, save_images=arguments.save_images,
    )  # fmt: skip
    console.print(f"release {out}: {len(released)} images, {describe_psnr(read_card(out))}")
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
    place = path.resolve()
    for folder in (place, *place.parents):
        if (folder / "card.json").exists() and (folder / "manifest.csv").exists():
            raise UserError(f"{option} {path}: lies in a release, which is public; choose another place")
