"""The sizes that experiments run at, and the arguments that most of them take."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugejax import UserError
from ugejax.countermeasures import parse_countermeasures
from ugejax.evaluation import parse_hackers


@dataclass(frozen=True)
class Scale:
    """How much an experiment takes of its images, and how long it trains.

    Attributes:
        n_train: training images.
        n_test: test images.
        network: backbone of the authorized network.
        epochs: of each training of the evaluation, without augmentation; None for each network's own.
    """

    n_train: int
    n_test: int
    network: str = "cnn"
    epochs: int | None = None


SCALES = {
    "smoke": Scale(60, 30, epochs=1),
    "tiny": Scale(2000, 1000),
    "small": Scale(5000, 2000),
    "full": Scale(50000, 10000, network="r18"),
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every experiment on CIFAR-10 takes; hackers and countermeasures are parsed to their names."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--data-dir", required=True, help="folder of prepared TFDS data sets")
    result.add_argument("--out", type=Path, required=True, help="folder for everything; what is finished is kept")
    result.add_argument("--scale", choices=list(SCALES), default="small")
    result.add_argument("--hackers", type=checked(parse_hackers), help="comma-separated; see `ugejax list`")
    result.add_argument(
        "--countermeasures", type=checked(parse_countermeasures), help="comma-separated; see `ugejax list`"
    )
    return result


def checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same function for `type=`: what it says of a mistake is what the parser says."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument
