"""The countermeasures by name: a new one is one function and one line in `COUNTERMEASURES`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ugejax.countermeasures.adversarial import pgd, worst_ueraser
from ugejax.countermeasures.channels import COMBINATIONS, least_code, mixed
from ugejax.countermeasures.class_dictionary import subtract_class_atoms
from ugejax.countermeasures.class_means import subtract_class_textures, subtract_known_textures
from ugejax.countermeasures.class_spectra import equalise_class_spectra
from ugejax.countermeasures.clean_share import leave_release_out, mix_in
from ugejax.countermeasures.coin import move_pixels
from ugejax.countermeasures.dp_sgd import clip_and_noise
from ugejax.countermeasures.exact_word import subtract_exact_words
from ugejax.countermeasures.gradient_projection import project_gradients_out
from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.key_recovery import recover_key
from ugejax.countermeasures.leaked_pairs import undo_by_pairs
from ugejax.countermeasures.learned_purifier import purify_by_leaked_pairs, purify_by_own_pairs
from ugejax.countermeasures.matched_patterns import subtract_known_patterns, subtract_learned_patterns
from ugejax.countermeasures.overlaid_codes import overlay_other_classes
from ugejax.countermeasures.preprocessing import (
    equalised,
    filtered,
    jpeg,
    low_pass,
    non_local_means,
    normalised,
    total_variation,
)
from ugejax.countermeasures.projections import orthogonal_projection, random_projection
from ugejax.countermeasures.ridge import ridge
from ugejax.countermeasures.spectrum import notch
from ugejax.errors import UserError
from ugejax.registry import Registry, split_names
from ugejax.transforms.filters import blur, grey
from ugejax.transforms.quantisation import bit_depth

Prepare = Callable[[HackerData], HackerData]


@dataclass(frozen=True)
class Countermeasure:
    """What a hacker does before and while he trains. His clean control does the same with originals for the release.

    Attributes:
        summary: one line for people.
        prepare: what he makes of his images before training; None for nothing.
        augment: names in `ugejax.transforms.TRANSFORMS`, applied in turn to every training batch.
        adversary: what `make_train_step` calls to replace a batch, with its keyword arguments.
        aggregate: what `make_train_step` calls for the gradient of a step, with its keyword arguments.
        clean_share: share of the originals that he holds.
        clean_count: number of originals that he holds, for who has a fixed number of them in place of a share.
        fine_tunes: what he goes on to train on those originals: "all" weights, "near" those that he has, or the
            "head", which is fitted anew; None for nothing.
        classifier: what he fits in place of every network: (images, labels, test images, seed=, num_classes=) -> logits
            [M, K]; None trains networks.
        members: how many networks he trains, each on images that were prepared with a seed of its own, to average their
            probabilities.
        needs_release: whether he trains on the release at all; False in the control that says what the originals that
            he holds are worth without it.
        pretrained: whether his networks begin with the weights that an evaluation has for them, but for a new head.
        inference: whether his network is trained on originals and tested on released test images: what a stranger's
            network, who has never seen the release, makes of such images; in the control on the test images themselves.
        knows_method: whether he needs `HackerData.own_pairs`, hence the card of the release.
    """

    summary: str
    prepare: Prepare | None = None
    augment: tuple[str, ...] = ()
    adversary: functools.partial | None = None
    aggregate: functools.partial | None = None
    clean_share: float = 0.0
    clean_count: int = 0
    fine_tunes: str | None = None
    classifier: Callable[..., np.ndarray] | None = None
    members: int = 1
    needs_release: bool = True
    knows_method: bool = False
    pretrained: bool = False
    inference: bool = False

    @property
    def holds_originals(self) -> bool:
        """Whether he has any of the originals."""
        return bool(self.clean_share or self.clean_count)

    def originals_of(self, count: int, num_classes: int) -> int:
        """How many originals he holds of that many: where he has any, one of each class at least."""
        wanted = self.clean_count or round(self.clean_share * count)
        return min(count, max(num_classes, wanted)) if self.holds_originals else 0

    def prepared(self, data: HackerData) -> HackerData:
        """The images that his networks are trained and tested on."""
        return data if self.prepare is None else self.prepare(data)


def _on_all_images(change: Callable[..., np.ndarray], **options: Any) -> Prepare:
    return lambda data: data.with_all_images(functools.partial(change, **options))


def _filter(transform: Callable) -> Prepare:
    return _on_all_images(functools.partial(filtered, transform=transform))


def _share(percent: int) -> dict[str, Countermeasure]:
    share = percent / 100
    return {
        f"clean-{percent}": Countermeasure(f"{percent} % originals mixed in", mix_in, clean_share=share),
        f"only-clean-{percent}": Countermeasure(
            f"{percent} % originals and no release, the control", leave_release_out, clean_share=share,
            needs_release=False,
        ),
        f"fine-tune-{percent}": Countermeasure(
            f"fine-tunes all weights on {percent} % originals", clean_share=share, fine_tunes="all"
        ),
        f"dfr-{percent}": Countermeasure(
            f"fits the head anew on {percent} % originals (Kirichenko et al. 2023)", clean_share=share,
            fine_tunes="head",
        ),
    }  # fmt: skip


COUNTERMEASURES: Registry[Countermeasure] = Registry(
    "countermeasure",
    {
        "none": Countermeasure("trains on what there is"),
        "crop-flip": Countermeasure("random crops and flips", augment=("crop-flip",)),
        "cutout": Countermeasure("crop-flip, then cutout", augment=("crop-flip", "cutout")),
        "mixup": Countermeasure("crop-flip, then mixup", augment=("crop-flip", "mixup")),
        "cutmix": Countermeasure("crop-flip, then cutmix", augment=("crop-flip", "cutmix")),
        "rand-augment": Countermeasure(
            "crop-flip, then RandAugment (Cubuk et al. 2020)", augment=("crop-flip", "rand-augment")
        ),
        "ueraser-lite": Countermeasure("crop-flip, then UEraser (Qin et al. 2023)", augment=("crop-flip", "ueraser")),
        "ueraser-max": Countermeasure(
            "crop-flip, then of five of UEraser's copies the one with the highest loss",
            augment=("crop-flip",),
            adversary=functools.partial(worst_ueraser, copies=5),
        ),
        "grey": Countermeasure("colour removed", _filter(grey)),
        **{
            f"channel-{name}": Countermeasure(
                f"{name.replace('-', ' ')}, alone", _on_all_images(mixed, weights=weights)
            )
            for name, weights in COMBINATIONS.items()
            if name != "luma"  # which is `grey`
        },
        "channel-least-code": Countermeasure(
            "the one of these, or luma, whose class means are the most like natural ones", least_code
        ),
        "channel-normalise": Countermeasure(
            "each channel of each image to one mean and deviation", _on_all_images(normalised)
        ),
        "histogram-equalise": Countermeasure("each channel's histogram flattened", _on_all_images(equalised)),
        "coin": Countermeasure("each pixel moved by up to 2 at random (COIN, Li et al. 2025)", move_pixels),
        # The Gaussian filter of APBench, and of image shortcut squeezing, has a standard deviation of 0.1 pixels: its
        # neighbours weigh exp(-50), and no image of 8 bits changes. The binomial one is a Gaussian of 0.7 pixels.
        "blur": Countermeasure("binomial blur of 3x3 pixels", _filter(blur)),
        "bdr": Countermeasure("bit depth reduced to 2 bits", _filter(functools.partial(bit_depth, bits=2))),
        **{
            f"jpeg-{q}": Countermeasure(f"JPEG at quality {q}", _on_all_images(jpeg, quality=q))
            for q in (10, 30, 50, 75)
        },
        "low-pass": Countermeasure(
            "lowest quarter of the frequencies along each axis", _on_all_images(low_pass, keep=1 / 4)
        ),
        "total-variation": Countermeasure(
            "total-variation denoising (Chambolle 2004)", _on_all_images(total_variation, weight=0.1, steps=30)
        ),
        # Noise as strong as a perturbation that takes the usual budget everywhere.
        "non-local-means": Countermeasure(
            "non-local means denoising (Buades et al. 2005)", _on_all_images(non_local_means, noise=8 / 255)
        ),
        "random-projections": Countermeasure("a random half of every patch's dimensions", random_projection),
        "random-projections-5": Countermeasure(
            "five networks together, each with a random half of every patch's dimensions", random_projection, members=5
        ),
        "class-means": Countermeasure("subtracts the texture of each class", subtract_class_textures),
        "class-means-oracle": Countermeasure(
            "subtracts each class's mean perturbation, taken from all originals: a bound",
            subtract_known_textures,
            clean_share=1.0,
        ),
        "exact-word": Countermeasure(
            "subtracts the stripes of the default method, found class by class",
            subtract_exact_words,
        ),
        "orthogonal-projection": Countermeasure(
            "projects a linear classifier's directions out (Sandoval-Segura et al. 2023)", orthogonal_projection
        ),
        "key-recovery": Countermeasure("projects out what the covariance has beyond natural images'", recover_key),
        "spectrum-notch": Countermeasure("removes frequencies with more power than in natural images", notch),
        "class-spectra": Countermeasure(
            "gives each class the power spectra and the covariance of channels of natural images",
            equalise_class_spectra,
        ),
        "class-dictionary": Countermeasure(
            "learns a dictionary of each class's patches, subtracts the atoms that the other classes have not",
            subtract_class_atoms,
        ),
        "overlaid-codes": Countermeasure(
            "lays residuals of other classes' images over every image", overlay_other_classes
        ),
        "gradient-projection": Countermeasure(
            "projects out the gradients by which a network trained on the release names the class",
            project_gradients_out,
        ),
        "matched-pattern": Countermeasure(
            "learns each class's pattern of codes, estimates where and with which sign it lies, and subtracts it",
            subtract_learned_patterns,
        ),
        "matched-pattern-oracle": Countermeasure(
            "the same with the patterns known, taken from all originals: a bound",
            subtract_known_patterns,
            clean_share=1.0,
        ),
        # Half the radius and three steps cost a small network less of its clean accuracy, and a CPU a third of the
        # time.
        "adversarial-training": Countermeasure(
            "PGD, l_inf 4/255, 3 steps of 2/255",
            adversary=functools.partial(pgd, eps=4 / 255, step_size=2 / 255, steps=3),
        ),
        # The field's; APBench takes steps of 0.007.
        "adversarial-training-8": Countermeasure(
            "PGD, l_inf 8/255, 10 steps of 2/255",
            adversary=functools.partial(pgd, eps=8 / 255, step_size=2 / 255, steps=10),
        ),
        "fgsm-rs": Countermeasure(
            "one step of 10/255 from a random start, l_inf 8/255 (Wong et al. 2020)",
            adversary=functools.partial(pgd, eps=8 / 255, step_size=10 / 255, steps=1),
        ),
        # In the grid of Hong et al., whose clipping norms go from 0.1 to 8 and whose noise from 1e-5 to 0.1.
        "dp-sgd": Countermeasure(
            "DP-SGD, clipping norm 1, noise multiplier 0.1; no privacy is claimed (Hong et al. 2020)",
            aggregate=functools.partial(clip_and_noise, clip=1.0, noise=0.1),
        ),
        "ridge": Countermeasure(
            "no network: ridge regression on whitened random patches, in closed form (Coates et al. 2011)",
            classifier=ridge,
        ),
        "pretrained": Countermeasure("networks that begin with weights of your own, named by `init`", pretrained=True),
        "recovery-1": Countermeasure(
            "trains on 1 % originals within a small ball around the trained weights (Wang et al. 2025)",
            clean_share=0.01,
            fine_tunes="near",
        ),
        "stranger-inference": Countermeasure(
            "a network trained on originals, tested on test images that are released under another key",
            needs_release=False,
            knows_method=True,
            inference=True,
        ),
        **{
            f"leaked-pairs-{count}": Countermeasure(
                f"{count} originals leaked: subtracts each class's mean difference, then a least-squares filter",
                undo_by_pairs,
                clean_count=count,
            )
            for count in (50, 500)
        },
        "learned-purifier": Countermeasure(
            "a U-Net that undoes the release's method on images of his own, under keys of his own",
            purify_by_own_pairs,
            knows_method=True,
        ),
        "leaked-purifier-500": Countermeasure(
            "the same U-Net, trained on 500 leaked originals and their releases",
            purify_by_leaked_pairs,
            clean_count=500,
        ),
        "purifier": Countermeasure("a function of your own"),
        **{name: countermeasure for percent in (1, 5, 20) for name, countermeasure in _share(percent).items()},
    },
)


def countermeasure_of(name: str, **instead: Countermeasure) -> Countermeasure:
    """The countermeasure of a name; names joined by "+", as in "class-means+crop-flip", are one hacker with all.

    What they make of the images before training, and how they augment, is done in the order of the names.

    Args:
        name: names in `COUNTERMEASURES`.
        instead: countermeasures that stand for those of their name there.

    Raises:
        UserError: a name is unknown; two of them want the same thing of a hacker, who has one adversary, one gradient,
            one share of the originals and one ensemble; or one is named twice, or `none` with another.
    """
    names = name.split("+")
    parts = [instead.get(part, COUNTERMEASURES.find(part, "countermeasures")) for part in names]
    if len(parts) == 1:
        return parts[0]
    if len(set(names)) < len(names) or "none" in names:
        raise UserError(f"{name}: each goes once, and none goes alone", argument="countermeasures")
    single = {}
    for field, nothing in _SINGLE.items():
        given = [part for part in parts if getattr(part, field) != nothing]
        if len(given) > 1:
            raise UserError(
                f"{name}: a hacker has one {field.replace('_', ' ')}, not {len(given)}", argument="countermeasures"
            )
        single[field] = getattr(given[0], field) if given else nothing
    if single["clean_share"] and single["clean_count"]:
        raise UserError(f"{name}: a hacker has a share of the originals or a number", argument="countermeasures")
    trains = single["members"] > 1 or any(getattr(part, field) for part in parts for field in _OF_NETWORKS)
    if single["classifier"] and trains:
        raise UserError(
            f"{name}: trains no network, so that nothing of a training goes with it", argument="countermeasures"
        )
    return Countermeasure(
        ", ".join(part.summary for part in parts),
        functools.partial(_one_after_the_other, parts),
        tuple(dict.fromkeys(transform for part in parts for transform in part.augment)),
        needs_release=all(part.needs_release for part in parts),
        knows_method=any(part.knows_method for part in parts),
        inference=any(part.inference for part in parts),
        pretrained=any(part.pretrained for part in parts),
        **single,
    )


# What of a hacker there is only one of, and what stands for none of it.
_SINGLE = {
    "adversary": None, "aggregate": None, "clean_share": 0.0, "clean_count": 0, "fine_tunes": None,
    "classifier": None, "members": 1,
}  # fmt: skip
# What changes how a network is trained, and has no meaning where there is none.
_OF_NETWORKS = ("augment", "adversary", "aggregate", "fine_tunes", "pretrained")


def _one_after_the_other(parts: list[Countermeasure], data: HackerData) -> HackerData:
    return functools.reduce(lambda data, part: part.prepared(data), parts, data)


def place_of(name: str) -> tuple[int, ...]:
    """Where a countermeasure, or several joined by "+", stands in the order of the registry; strangers come last."""
    places = {known: place for place, known in enumerate(COUNTERMEASURES)}
    return tuple(places.get(part, len(places)) for part in name.split("+"))


def parse_countermeasures(names: str) -> list[str]:
    """A comma-separated list of names, and of names joined by "+", checked.

    Raises:
        UserError: a name is unknown, or they do not go together.
    """
    chosen = list(split_names(names))
    for name in chosen:
        countermeasure_of(name)
    if not chosen:
        raise UserError("names none; `none` stands for training without any", argument="countermeasures")
    return chosen
