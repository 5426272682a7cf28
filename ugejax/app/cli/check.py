"""`ugejax check`: what a source holds, before anything long begins."""

import argparse
import dataclasses
import json
from typing import Any

from ugejax.app.cli.found import costs_of, describe, describe_costs, hardly_protected
from ugejax.app.cli.sources import source_from
from ugejax.app.files import replace_text, try_place
from ugejax.data import Survey, survey
from ugejax.data.account import some


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit code 1 where `protect` would refuse the images as they are."""
    source = source_from(arguments, arguments.subset_seed or 0)
    if arguments.out is not None:
        try_place(arguments.out, "--out")
    seen = survey(source, quick=arguments.quick)
    refused = _refused(seen, skip=source.skip_unreadable)
    content = _content(source.title, seen, refused)
    if arguments.out is not None:
        replace_text(arguments.out, json.dumps(content, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(content, indent=2))
        return 1 if refused else 0
    lines = describe(source, seen)
    if content["cost"]:
        lines.append(describe_costs(content["cost"]))
    if arguments.quick:
        lines.append("headers alone were read: damage behind them and copies were not looked for")
    lines += [f"protect refuses this: {line}" for line in refused]
    for line in lines:
        print(line.encode(errors="backslashreplace").decode())
    return 1 if refused else 0


def _refused(seen: Survey, *, skip: bool) -> list[str]:
    """For what reasons `protect` would refuse the source, a line each."""
    lines = []
    if seen.account.unreadable and not skip:
        lines.append(f"{len(seen.account.unreadable)} images cannot be read; mend them, or leave them out with "
                     "--skip-unreadable")  # fmt: skip
    if seen.image_shape is None and len(seen.sizes) > 1:
        sizes = some([f"{width} x {height}" for width, height in seen.sizes])
        lines.append(f"images of {len(seen.sizes)} sizes ({sizes}); give --image-size to make them one")
    return lines


def _content(title: str, seen: Survey, refused: list[str]) -> dict[str, Any]:
    account = seen.account
    return {
        "schema": 1,
        "source": title,
        "form": account.form,
        "n_train": seen.n_train,
        "n_test": seen.n_test,
        "classes": dict(seen.class_counts),
        "image_shape": seen.image_shape,
        "sizes": [{"width": width, "height": height, "images": n} for (width, height), n in seen.sizes.items()],
        "formats": dict(seen.formats),
        "modes": dict(seen.modes),
        "splits": [dataclasses.asdict(split) for split in account.splits],
        "left_out": [dataclasses.asdict(kind) for kind in account.left_out],
        "unreadable": [{"file": file, "why": why} for file, why in account.unreadable],
        "unprotected_images": account.unprotected,
        "animated": list(seen.animated),
        "misnamed": list(seen.misnamed),
        "notes": [*account.warnings, *hardly_protected(seen)],
        "cost": costs_of(seen),
        "headers_only": seen.seconds is None,
        "refused": refused,
    }
