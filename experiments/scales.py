"""The sizes that experiments run at, and the main job at one of them."""

import argparse
import json
from pathlib import Path
from typing import Any

from ugejax.cli import main as ugejax

SCALES = {
    "smoke": ["--n-train", "60", "--n-test", "30"],
    "tiny": ["--n-train", "2000", "--n-test", "1000"],
    "small": ["--n-train", "5000", "--n-test", "2000"],
    "full": ["--n-train", "50000", "--n-test", "10000", "--network", "r18"],
}
EVALUATION = {"smoke": ["--epochs", "1"], "tiny": [], "small": [], "full": []}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every experiment on CIFAR-10 takes."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--data-dir", required=True, help="folder of prepared TFDS data sets")
    result.add_argument("--out", type=Path, required=True, help="folder for everything; what is finished is kept")
    result.add_argument("--scale", choices=list(SCALES), default="small")
    result.add_argument("--hackers", help="comma-separated; see `ugejax list`")
    result.add_argument("--countermeasures", help="comma-separated; see `ugejax list`")
    result.add_argument(
        "--protect", default="", help="further arguments of `ugejax protect`, as in --protect='--period 8'"
    )
    return result


def protect_and_evaluate(
    out: Path,
    arguments: argparse.Namespace,
    *,
    seed: int,
    settings: list[str],
    countermeasures: str,
    keyed: bool = True,
    distillation: str | None = None,
) -> dict[str, Any]:
    """Protect CIFAR-10, train both sides (without a key only the hackers), and return the results.

    Args:
        out: folder of this one protection: release/, key/, and the evaluation's files.
        arguments: from `parser`.
        seed: of the key.
        settings: further arguments of `ugejax protect`.
        countermeasures: those of the evaluation where the arguments name none.
        keyed: whether the method has a key.
        distillation: what students of the authorized network ask it; None for no students.

    Raises:
        SystemExit: a command failed; it has said why.
    """
    release, key = str(out / "release"), str(out / "key")
    protect = ["protect", "cifar10", "--data-dir", arguments.data_dir, *SCALES[arguments.scale], *settings]
    protect += arguments.protect.split()
    evaluate = ["evaluate", release, "--key", key] if keyed else ["attack", release]
    evaluate += ["--out", str(out), "--data-dir", arguments.data_dir, *EVALUATION[arguments.scale]]
    evaluate += ["--countermeasures", arguments.countermeasures or countermeasures]
    if arguments.hackers:
        evaluate += ["--hackers", arguments.hackers]
    if distillation:
        evaluate += ["--distillation", distillation]
    for command in ([*protect, "--seed", str(seed), "--out", release, "--key", key], evaluate):
        if code := ugejax(command):
            raise SystemExit(code)
    return json.loads((out / "results.json").read_text())
