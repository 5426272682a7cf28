"""How much each scale of the accelerator's script takes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scale:
    """A scale.

    Attributes:
        cases: which cases of `equality` are computed; None for all.
        networks: of the timed steps.
        batches: images a step.
        precisions: of the timed steps: "default", "float32" (products in full) and "bfloat16".
        side: of the images of the timed steps.
        repeats: how often each is timed.
        product: side of the square matrices by whose product utilisation is told.
        bulk: images that are released in bulk.
        hackers: networks that train together.
        together: which networks; their images and epochs are those of `experiments.bench.together`.
        hacker_images: images of each of them.
        ways: names of `timings.WAYS` that are timed both ways; None for all.
        whole: the network and the epochs of each training at full size; None for the recipe's own.
        images: how many, training and test; CIFAR-10's where they are at hand.
        demo: whether the demo is run.
    """

    cases: tuple[str, ...] | None
    networks: tuple[str, ...]
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    side: int
    repeats: int
    product: int
    bulk: int
    hackers: int
    together: tuple[str, ...]
    hacker_images: int
    ways: tuple[str, ...] | None
    whole: tuple[tuple[str, int | None], ...]
    images: tuple[int, int]
    demo: bool


SCALES = {
    "smoke": Scale(
        cases=("release keyed-dither", "train step mlp", "transform jpeg-10"), networks=("mlp",), batches=(4,),
        precisions=("default",), side=8, repeats=1, product=64, bulk=20, hackers=2, together=(), hacker_images=8,
        ways=("PGD of baselines, 10 steps",), whole=(("mlp", 1),), images=(40, 20), demo=False,
    ),
    "small": Scale(
        cases=None, networks=("cnn",), batches=(32, 128), precisions=("default", "bfloat16"), side=32, repeats=3,
        product=1024, bulk=2000, hackers=2, together=("mlp",), hacker_images=200, ways=None, whole=(("mlp", 2),),
        images=(500, 200), demo=False,
    ),
    "full": Scale(
        cases=None, networks=("cnn", "r18"), batches=(128, 512, 1024), precisions=("default", "float32", "bfloat16"),
        side=32, repeats=20, product=8192, bulk=50000, hackers=8, together=("cnn", "res-tiny"), hacker_images=5000,
        ways=None, whole=(("speedrun", None), ("r18", 15)), images=(50000, 10000), demo=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What the stages are given.

    Attributes:
        scale: how much.
        out: folder of the results.
        data_dir: folder of prepared TFDS data sets; None takes random images in place of CIFAR-10, whose accuracies
            say nothing.
    """

    scale: Scale
    out: Path
    data_dir: str | None = None
