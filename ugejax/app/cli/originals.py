"""The originals and the clean test images of a release, from what its card remembers or from where the user says."""

import dataclasses
from pathlib import Path

import numpy as np

from ugejax.app.release import Release
from ugejax.data import Dataset, Source, load, load_all
from ugejax.errors import UserError


def _remembered(folder: Path, release: Release, name: str | None, data_dir: str | None) -> Source:
    source = Source.from_json(release.card.get("source", {})).found_from(folder)
    if name is not None:
        source = dataclasses.replace(source, name=name)
    return source if data_dir is None else dataclasses.replace(source, data_dir=data_dir)


def load_originals(folder: Path, release: Release, name: str | None, data_dir: str | None) -> Dataset:
    """The images that a release was made from, in its order.

    Args:
        folder: the release's, from which its card tells where they are.
        release: the release.
        name: where they are, if not where the card says.
        data_dir: folder of prepared TFDS data sets, if not the one that the card names.

    Raises:
        UserError: they are not there, or are not these originals.
    """
    source = _remembered(folder, release, name, data_dir)
    try:
        originals = load(source).train
    except UserError as error:
        raise UserError(f"originals: {error}; say where they are with --originals or --data-dir") from error
    check_originals(release, originals, source.name)
    return originals


def check_originals(release: Release, originals: Dataset, name: str) -> None:
    """Refuse images from which a release was not made.

    Raises:
        UserError: they differ from the released ones in number, shape, labels or by more than the budget; the message
            begins with `name`. Or the card names no budget.
    """
    if originals.images.shape != release.images.shape or not np.array_equal(originals.labels, release.labels):
        raise UserError(f"{name}: not the originals of this release (other images or labels)")
    eps = release.card.get("eps")
    if not isinstance(eps, int | float):
        raise UserError("card.json of the release names no eps; get the release again")
    distance = int(np.abs(originals.images.astype(np.int16) - release.images).max())
    if release.card.get("norm") == "linf" and distance > round(255 * eps):
        raise UserError(f"{name}: not the originals of this release: {distance} grey levels apart, more than its eps")


def load_test(
    folder: Path, release: Release, name: str | None, data_dir: str | None, *, originals: str | None = None
) -> Dataset:
    """Clean test images for a release: of its own source those that were held out, of another one all that it has.

    Args:
        folder: the release's, from which its card tells where they are.
        release: the release.
        name: where they are, if not beside the originals. It is the same source if the last part of its path is, since
            a set may have moved.
        data_dir: folder of prepared TFDS data sets, if not the one that the card names.
        originals: where the originals are, if not where the card says.

    Raises:
        UserError: there are none, or they do not fit the release.
    """
    source = _remembered(folder, release, originals, data_dir)
    if name is not None:
        named = dataclasses.replace(source, name=name)
        same = named.absolute().title == source.absolute().title
        test = load_all(named if same else dataclasses.replace(named, n_test=None))
    else:
        try:
            test = load(source).test
        except UserError as error:
            raise UserError(f"test images: {error}; say where they are with --test") from error
        if test is None:
            raise UserError(f"{source.name}: has no test images; name some with --test, or protect with --n-test")
    if test.images.shape[1:] != release.images.shape[1:]:
        raise UserError(f"test images are {test.images.shape[1:]}, those of the release {release.images.shape[1:]}")
    if test.class_names != release.class_names:
        raise UserError("test images have other classes than the release")
    return test
