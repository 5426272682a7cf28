"""What was found in a source, in lines for people: the first of `ugejax check` and of `ugejax protect`."""

import math
import os
import statistics

from ugejax.app.duration import duration
from ugejax.data import Source, Survey
from ugejax.data.account import shown, some

# Bytes of a release for each image beside its pixels: the label, and the line in the manifest.
_BESIDE = 4 + 90
# What `ugejax protect` with its defaults takes beside reading (BUILD_NOTES.md, "A folder of photographs"): values of
# images a second, seconds and bytes of memory to begin with, and bytes for each value of the images that are worked on
# at a time, of which there are at least as many as in one image.
_VALUES_A_SECOND, _BEGIN_SECONDS, _BEGIN_BYTES, _BYTES_A_VALUE, _VALUES = 4e6, 5.0, 5e8, 115, 2**22
# It reads every image that often.
_READINGS = 3
# Images of a class below which copies tell a class as easily as a perturbation does: of two images a class a network
# learned nearly all that the originals teach, of twenty it did not (BUILD_NOTES.md, "Data sets side by side").
FEW = 10
# Sizes and kinds that a line names.
_NAMED = 4


def describe(source: Source, survey: Survey) -> list[str]:
    """The lines of a source: what is protected, what it is made of, what is left out and what is odd.

    Args:
        source: the source.
        survey: of the source.
    """
    account = survey.account
    counts = survey.class_counts
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    each = f"{counts[most]}"
    if counts[least] < counts[most]:
        each = f"{counts[least]} ({least}) to {counts[most]} ({most})"
    held = f", {survey.n_test} test images that are not released" if survey.n_test else ""
    lines = [
        f"{source.title}: {account.form}, {survey.n_train} images to protect in {len(counts)} classes of {each}{held}"
    ]
    lines.append(_images(survey))
    for split in account.splits:
        if split.use == "not used":
            lines.append(f"not used: {split.name}, of which {split.images} images are NOT in the release")
        else:
            lines.append(f"{split.use} images: {split.name}, {split.images} images")
    for kind in account.left_out:
        shows = f", {kind.images} of them images, which are NOT in the release" if kind.images else ""
        lines.append(f"left out: {kind.files} {kind.kind}{shows} ({some(kind.examples)})")
    if account.unreadable:
        named = some([f"{file} ({why})" for file, why in account.unreadable])
        lines.append(f"cannot be read: {len(account.unreadable)} images, which are NOT in the release: {named}")
    if survey.animated:
        names = some(survey.animated)
        lines.append(f"several pictures in one file: {len(survey.animated)} images; the first is taken ({names})")
    if survey.misnamed:
        lines.append(f"of another format than the ending says: {len(survey.misnamed)} ({some(survey.misnamed)})")
    lines += [f"note: {line}" for line in (*account.warnings, *hardly_protected(survey))]
    # Files by their names within the source.
    return [line.replace(f"{shown(source.name)}{os.sep}", "") for line in lines]


def _images(survey: Survey) -> str:
    sizes = [f"{width} x {height} ({count})" for (width, height), count in survey.sizes.items()]
    parts = [f"sizes {some(sizes, _NAMED)}" if len(sizes) > 1 else f"all {sizes[0].split(' (')[0]}" if sizes else ""]
    for found in (survey.formats, survey.modes):
        parts.append(", ".join(f"{count} {name}" for name, count in found.items()))
    if survey.image_shape is not None:
        height, width, channels = survey.image_shape
        parts.append(f"released as {width} x {height} {'grey' if channels == 1 else 'RGB'}")
    return "images: " + "; ".join(part for part in parts if part)


def hardly_protected(survey: Survey) -> list[str]:
    """A line where so few images make a class that they are hardly protected."""
    median = statistics.median(survey.class_counts.values())
    if median >= FEW:
        return []
    return [
        f"half of the {len(survey.class_counts)} classes have at most {median:g} images: so few are hardly protected, "
        "whatever the settings"
    ]


def costs_of(seen: Survey) -> dict[str, float]:
    """What a protection with the defaults takes on this machine; empty where sizes differ."""
    if seen.image_shape is None or not seen.n_train:
        return {}
    values = math.prod(seen.image_shape)
    costs: dict[str, float] = {"release_bytes": seen.n_train * (values + _BESIDE)}
    at_a_time = max(values, min(_VALUES, seen.n_train * values))
    costs["memory_bytes"] = round(_BEGIN_BYTES + _BYTES_A_VALUE * at_a_time)
    if seen.seconds is not None:
        reading = seen.seconds * _READINGS * seen.n_train / (seen.n_train + seen.n_test)
        costs["seconds"] = round(_BEGIN_SECONDS + reading + seen.n_train * values / _VALUES_A_SECOND, 1)
    return costs


def describe_costs(costs: dict[str, float]) -> str:
    """What it costs, for people."""
    seconds = costs.get("seconds")
    time = "" if seconds is None else f"about {duration(seconds)} here and "
    return (
        f"the release: {_bytes(costs['release_bytes'])}; with the defaults {time}about {_bytes(costs['memory_bytes'])} "
        "of memory"
    )


def _bytes(size: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"
