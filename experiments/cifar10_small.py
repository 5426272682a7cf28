"""The main job on a small CIFAR-10: 5,000 training and 2,000 test images, budget 8/255, small networks.

Command:
    python -m experiments.cifar10_small --data-dir TFDS_FOLDER --out runs/cifar10-small [--form keyed-dither]

Time: about 15 minutes on two CPU cores for the default form; what is finished is not done again.

Expect (default form, seed 0; table in BUILD_NOTES.md): the authorized network keeps at least 97 % of its backbone's
accuracy on the originals; hackers without counter-measure get below 0.20 on average, below 0.30 at most.
"""

import argparse
from pathlib import Path

from ugejax.authorized import FORMS
from ugejax.cli import main as ugejax


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder of prepared TFDS data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--form", choices=list(FORMS), default="keyed-dither")
    parser.add_argument("--countermeasures", default="none")
    arguments = parser.parse_args()
    release, key = str(arguments.out / "release"), str(arguments.out / "key")
    subset = ["--data-dir", arguments.data_dir, "--n-train", "5000", "--n-test", "2000"]
    protected = ugejax(
        ["protect", "cifar10", *subset, "--seed", "0", "--authorized", arguments.form, "--out", release, "--key", key]
    )
    return protected or ugejax(
        ["evaluate", release, "--key", key, "--out", str(arguments.out), "--countermeasures", arguments.countermeasures]
    )


if __name__ == "__main__":
    raise SystemExit(main())
