"""Does the protection hold for other image sets? Sets of every size, shape, colour and number of classes.

Command:
    python -m experiments.datasets --data-dir TFDS_FOLDER --photos TINY_IMAGENET_FOLDER --out runs/datasets
        [--scale small]

Time: at the tiny scale (2,000 images) with --hackers cnn 2 to 8 minutes a set of one CPU core that others share, half
an hour that of 224 pixels; what is finished is not done again. --sets names some of them.

Expect (table in docs/results, at the tiny scale): the authorized network gets the same of release and originals on
every set, and a cnn of most about half of what originals give it. Least harmed are a thousand classes of two images
each (0.41 of 0.45), the long tail (0.23 of 0.30) and two classes (0.59 of 0.90, where guessing gives 0.5). Of two
hundred images of four classes 15 epochs teach little, of the originals as well (0.50 to 0.53 of 0.53 to 0.55).
"""

import argparse
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments.main_job import Protected, evaluate_both_sides, job_parser, main_job, protect
from experiments.scales import SCALES
from experiments.tables import table_head, table_row
from ugejax import seen, verify_release
from ugejax.authorized import secret_words
from ugejax.countermeasures.preprocessing import filtered
from ugejax.data import Dataset, Source, load, stratified_subset
from ugejax.data.image_file import resize_images
from ugejax.transforms.filters import grey

Pair = tuple[Dataset, Dataset]  # training and test images


def both(change: Callable[[Dataset], Dataset]) -> Callable[[Pair], Pair]:
    """The same change of training and test images."""
    return lambda pair: (change(pair[0]), change(pair[1]))


def first_classes(data: Dataset, *, classes: int) -> Dataset:
    """The images of the first classes alone."""
    kept = data.labels < classes
    return Dataset(data.images[kept], data.labels[kept], data.class_names[:classes])


def in_grey(data: Dataset) -> Dataset:
    """One channel, the luma."""
    return replace(data, images=filtered(data.images, transform=grey)[..., :1])


def upright(data: Dataset) -> Dataset:
    """The middle three quarters of the columns."""
    margin = data.images.shape[2] // 8
    return replace(data, images=data.images[:, :, margin:-margin])


def long_tailed(data: Dataset, *, imbalance: float) -> Dataset:
    """Exponentially fewer images from class to class, the last one `imbalance` times fewer than the first.

    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, section 5.1.
    """
    last = len(data.class_names) - 1
    kept = []
    for label in range(last + 1):
        members = np.flatnonzero(data.labels == label)
        kept.append(members[: max(1, int(len(members) * imbalance ** (-label / last)))])
    index = np.sort(np.concatenate(kept))
    return replace(data, images=data.images[index], labels=data.labels[index])


def exemplars(pair: Pair, *, classes: int, copies: int) -> Pair:
    """Each of the first images a class of its own, whose members are random crops of it, mirrored or not.

    Dosovitskiy et al., Discriminative Unsupervised Feature Learning with Convolutional Neural Networks, NIPS 2014. Test
    images are other crops: one of each.
    """
    seeds, rng = pair[0].images[:classes], np.random.default_rng(0)
    height, width = seeds.shape[1:3]
    padded = np.pad(seeds, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")

    def crops() -> np.ndarray:
        places = rng.integers(0, 9, (len(seeds), 2))
        cut = [
            image[row : row + height, column : column + width]
            for image, (row, column) in zip(padded, places, strict=True)
        ]
        return np.stack([image[:, ::-1] if rng.integers(2) else image for image in cut])

    labels, names = np.arange(len(seeds), dtype=np.int32), tuple(map(str, range(len(seeds))))
    train = Dataset(np.concatenate([crops() for _ in range(copies)]), np.tile(labels, copies), names)
    return train, Dataset(crops(), labels, names)


def same(pair: Pair) -> Pair:
    """The images as they are."""
    return pair


# name: (where the images come from, what is made of them)
SETS: dict[str, tuple[str, Callable[[Pair], Pair]]] = {
    "cifar10": ("cifar10", same),
    "two-classes": ("cifar10", both(functools.partial(first_classes, classes=2))),
    "grey": ("cifar10", both(in_grey)),
    "upright": ("cifar10", both(upright)),
    "long-tailed": ("cifar10", lambda pair: (long_tailed(pair[0], imbalance=100), pair[1])),
    "exemplars": ("cifar10", functools.partial(exemplars, classes=1000, copies=5)),
    "cifar100": ("cifar100", same),
    "tiny-imagenet": ("photos", same),
    "four-classes-64": ("photos", both(functools.partial(first_classes, classes=4))),
    "four-classes-224": ("photos", both(functools.partial(first_classes, classes=4))),
}
# To which images are scaled, a tenth of them: at 224 pixels they take 49 times the work of the others, and the same few
# at 64 tell the images' size from their number.
SIDES = {"four-classes-64": 64, "four-classes-224": 224}


def main() -> int:
    return table(arguments_of(__doc__, sets=",".join(SETS)).parse_args())


def arguments_of(description: str | None, *, sets: str) -> argparse.ArgumentParser:
    """The arguments of a table of data sets, with its default ones."""
    result = job_parser(description)
    result.add_argument("--photos", help="image folder of Tiny-ImageNet, one folder a class")
    result.add_argument("--sets", default=sets, help=f"comma-separated (default {sets})")
    result.add_argument(
        "--networks", help="of the authorized side, comma-separated (default cnn, r18 at the full scale)"
    )
    return result


def table(arguments: argparse.Namespace) -> int:
    """A row for each set and authorized network, printed in the end and kept in summary.json as it is done."""
    chosen = arguments.sets.split(",")
    if unknown := [name for name in chosen if name not in SETS]:
        raise SystemExit(f"--sets: unknown {unknown[0]!r}; choose among {', '.join(SETS)}")
    rows = []
    for name in chosen:
        origin, change = SETS[name]
        if origin == "photos" and arguments.photos is None:
            print(f"{name}: left out; name the folder of Tiny-ImageNet with --photos")
            continue
        source = Source(str(arguments.photos) if origin == "photos" else origin, data_dir=arguments.data_dir)
        pair = change(_load(source))
        for network in (arguments.networks or ("r18" if arguments.scale == "full" else "cnn")).split(","):
            rows.append({"set": name} | _run(pair, SIDES.get(name), arguments.out / name / network, arguments, network))
            (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    names = ("set", "images", "classes", "training images", "authorized", "backbone", "on originals", "on the release")
    print(table_head(*names, "hackers: on originals", "on the release", "best peak"))
    for row in rows:
        print(table_row(row["set"], *_cells(row)))
    return 0


def _load(source: Source) -> Pair:
    splits = load(source)
    assert splits.test is not None, "CIFAR and Tiny-ImageNet have test images"
    return splits.train, splits.test


def _run(pair: Pair, side: int | None, out: Path, arguments: argparse.Namespace, network: str) -> dict[str, Any]:
    """Protect, verify and evaluate one set, by way of files, which the commands could take as well."""
    out.mkdir(parents=True, exist_ok=True)
    scale, files = SCALES[arguments.scale], {}
    for part, data, n in zip(("train", "test"), pair, (scale.n_train, scale.n_test), strict=True):
        data = _at_most(data, n if side is None else n // 10)
        files[part] = Source(str(out / f"{part}.npz"))
        np.savez(
            files[part].name, data=resize_images(data.images, side), targets=data.labels,
            class_names=np.array(data.class_names),
        )  # fmt: skip
    # A perceptron on photographs is enormous.
    hackers = arguments.hackers or (("cnn", "mlp") if side is None else ("cnn",))
    job = main_job(arguments, source=files["train"], test=files["test"], network=network, hackers=hackers)
    protected = protect(job, out)
    _verify(protected)
    card = protected.card
    of_card = {"image_shape": card["image_shape"], "classes": len(card["class_names"]), "authorized": network}
    return of_card | {"n_train": card["n_train"]} | evaluate_both_sides(job, protected, out)


def _verify(protected: Protected) -> None:
    """Check the release beside its originals and its key, whose network must see no difference.

    Raises:
        SystemExit: a check failed.
    """
    key, network = protected.key, protected.network
    assert key is not None and network is not None, "the method protects"
    secrets, numbers = secret_words(key, network)
    checks = verify_release(
        protected.folder, originals=protected.train, key_fingerprint=key.fingerprint, key_secrets=secrets,
        key_numbers=numbers,
    )  # fmt: skip
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.ok]
    if not np.array_equal(seen(network.view, protected.released), seen(network.view, protected.train.images)):
        failed.append("blindness: the authorized network sees a difference")
    if failed:
        raise SystemExit("\n".join(failed))


def _at_most(data: Dataset, n: int) -> Dataset:
    """A stratified subset of n images, or all there are, but at least one a class."""
    index = stratified_subset(data.labels, min(len(data.labels), max(n, len(data.class_names))), 0)
    return replace(data, images=data.images[index], labels=data.labels[index])


def _cells(result: dict[str, Any]) -> list[str]:
    """What the table says of a set; of the hackers their mean without countermeasure, and the best of all peaks."""
    (authorized,) = (row for row in result["rows"] if (row["role"], row["countermeasure"]) == ("authorized", "none"))
    hackers = [row for row in result["rows"] if row["role"] != "authorized"]
    plain = [row for row in hackers if row["countermeasure"] == "none"]
    accuracies = [authorized["backbone_accuracy"], authorized["clean_accuracy"], authorized["protected_accuracy"]]
    accuracies += [mean(row[f"{kind}_accuracy"] for row in plain) for kind in ("clean", "protected")]
    accuracies += [max(row["protected_peak_accuracy"] for row in hackers)]
    shape = "x".join(map(str, result["image_shape"]))
    named = [shape, *(str(result[name]) for name in ("classes", "n_train", "authorized"))]
    return [*named, *(f"{accuracy:.3f}" for accuracy in accuracies)]


if __name__ == "__main__":
    raise SystemExit(main())
