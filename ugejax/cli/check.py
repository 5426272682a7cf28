"""`ugejax check`: what a source holds, before anything long begins."""

import argparse
import dataclasses
import json
import math
import os
from typing import Any

from ugejax.cli.found import describe, hardly_protected
from ugejax.cli.sources import source_from
from ugejax.data import Survey, survey
from ugejax.data.account import some
from ugejax.duration import duration
from ugejax.whole import replace_text, try_place

# Bytes of a release for each image beside its pixels: the label, and the line in the manifest.
_BESIDE = 4 + 90
# What `ugejax protect` with its defaults takes beside reading (BUILD_NOTES.md, "A folder of photographs"): values
# of images a second on one core, seconds and bytes of memory to begin with, and bytes for each value of the images that
# are worked on at a time, of which there are at least as many as in one image.
_VALUES_A_SECOND, _BEGIN_SECONDS, _BEGIN_BYTES, _BYTES_A_VALUE, _VALUES = 7e6, 8.0, 7e8, 100, 2**22
# It reads every image that often.
_READINGS = 3


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
        lines.append(_cost(content["cost"]))
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
        "cost": _costs(seen),
        "headers_only": seen.seconds is None,
        "refused": refused,
    }


def _costs(seen: Survey) -> dict[str, float]:
    """What a protection with the defaults takes on this machine; empty where sizes differ."""
    if seen.image_shape is None or not seen.n_train:
        return {}
    values = math.prod(seen.image_shape)
    costs: dict[str, float] = {"release_bytes": seen.n_train * (values + _BESIDE)}
    at_a_time = max(values, min(_VALUES, seen.n_train * values))
    costs["memory_bytes"] = round(_BEGIN_BYTES + _BYTES_A_VALUE * at_a_time)
    if seen.seconds is not None:
        reading = seen.seconds * _READINGS * seen.n_train / (seen.n_train + seen.n_test)
        work = seen.n_train * values / _VALUES_A_SECOND / len(os.sched_getaffinity(0))
        costs["seconds"] = round(_BEGIN_SECONDS + reading + work, 1)
    return costs


def _cost(costs: dict[str, float]) -> str:
    seconds = costs.get("seconds")
    time = "" if seconds is None else f", about {duration(seconds)} here with the defaults"
    return f"the release: {_bytes(costs['release_bytes'])}{time}, {_bytes(costs['memory_bytes'])} of memory"


def _bytes(size: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"
