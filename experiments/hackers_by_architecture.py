"""Does it matter which network a hacker trains? The same release in front of many architectures, on CIFAR-10.

Command:
    python -m experiments.hackers_by_architecture --data-dir TFDS_FOLDER --out runs/architectures [--scale small]
        [--hackers cnn,mlp,...] [--countermeasures none,crop-flip]

Time: at the tiny scale (2,000 images) twelve trainings, a quarter of an hour on a CPU core shared with others; what is
finished is not done again.

Expect (at the tiny scale): every architecture below what originals give it, the perceptron
least so.
"""

import json

import matplotlib
import numpy as np

from experiments.tables import figure, table_head, table_row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from experiments.main_job import job_parser, main_job, protect_and_evaluate  # noqa: E402
from ugejax.app.report.pictures import COLOURS  # noqa: E402

SMALL = ("cnn", "cnn-other-init", "cnn-nonorm", "mlp", "res-tiny")
HACKERS = {
    "smoke": ("cnn", "mlp"),
    "tiny": SMALL,
    "small": (*SMALL, "r20"),
    "full": (
        "r18", "r50", "vgg16-bn", "se18", "mv2", "shufflenet-v2", "de121", "wrn-28-10", "vit-small", "cait-small",
        "convmixer", "mlp-mixer",
    ),
}  # fmt: skip


def main() -> int:
    arguments = job_parser(__doc__).parse_args()
    arguments.hackers = arguments.hackers or HACKERS[arguments.scale]
    results = protect_and_evaluate(main_job(arguments), arguments.out)
    rows = sorted(results["rows"], key=lambda row: (row["countermeasure"], row["role"], -row["protected_accuracy"]))
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    print(table_head("role", "network", "countermeasure", "on originals", "on the release", "peak"))
    for row in rows:
        cells = [row["role"], row["network"], row["countermeasure"]]
        cells += [figure(row[f"{kind}_accuracy"]) for kind in ("clean", "protected", "protected_peak")]
        print(table_row(*cells))
    _draw(arguments.out / "figure.png", rows)
    return 0


def _draw(path, rows):
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(rows) + 1.2), layout="constrained")
    at = np.arange(len(rows))[::-1]
    axis.barh(at + 0.2, [row["clean_accuracy"] for row in rows], 0.4, color="#BBBBBB", label="trained on originals")
    axis.barh(
        at - 0.2, [row["protected_accuracy"] for row in rows], 0.4,
        color=[COLOURS[row["role"]] for row in rows], label="on the release",
    )  # fmt: skip
    axis.set_yticks(at, [f"{row['role'].replace('_', ' ')} {row['network']}, {row['countermeasure']}" for row in rows])
    axis.set(xlabel="accuracy on clean test images", xlim=(0, 1))
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
