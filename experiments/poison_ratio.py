"""How much of a set must be protected? A hacker who trains on some released and some original images, on CIFAR-10.

Command:
    python -m experiments.poison_ratio --data-dir TFDS_FOLDER --out runs/poison-ratio [--scale small]
        [--hackers cnn] [--countermeasures none]

Time: ten trainings; at the tiny scale (2,000 images) ten minutes on a CPU core shared with others; what is finished
is not done again.

Expect (table in docs/results): a protected image is worth little to the hacker: what he gets of the mixture lies near
what the originals in it teach alone, and only all of them protected leave him with little.
"""

import json
from dataclasses import replace

import matplotlib
import numpy as np

from experiments.tables import figure, table_head, table_row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from experiments.composed import load_job  # noqa: E402
from experiments.scales import parser  # noqa: E402
from ugejax.data import Dataset  # noqa: E402
from ugejax.data.dataset import stratified_subset  # noqa: E402
from ugejax.uge import Method  # noqa: E402

PERCENT = (20, 40, 60, 80, 100)


def main() -> int:
    arguments = parser(__doc__).parse_args()
    job, out = load_job(arguments, form="keyed-dither"), arguments.out
    images, labels = job.train.images, job.train.labels
    released = job.protection(Method()).run(images, labels, out / "protection")
    hackers, countermeasures = arguments.hackers or ("cnn",), arguments.countermeasures or ("none",)
    rows = []
    for percent in PERCENT:
        protected = np.sort(stratified_subset(labels, len(labels) * percent // 100, 0))
        mixture = images.copy()
        mixture[protected] = released[protected]
        mixed = job.evaluate(mixture, out / f"{percent}-mixed", hackers=hackers, countermeasures=countermeasures)
        rest = np.setdiff1d(np.arange(len(labels)), protected)
        alone: list[dict] = [{}] * len(mixed)
        if len(rest):
            originals = Dataset(images[rest], labels[rest], job.train.class_names)
            alone = replace(job, train=originals).evaluate(
                originals.images, out / f"{percent}-rest-alone", hackers=hackers, countermeasures=countermeasures
            )
        rows += [
            {
                "protected_percent": percent, "network": row["network"], "countermeasure": row["countermeasure"],
                "all_originals": row["clean_accuracy"], "mixture": row["protected_accuracy"],
                "mixture_peak": row["protected_peak_accuracy"], "originals_in_it_alone": control.get("clean_accuracy"),
            }
            for row, control in zip(mixed, alone, strict=True)
        ]  # fmt: skip
    (out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    names = ("all originals", "mixture", "peak", "the originals in it alone")
    print(table_head("protected", "network", "countermeasure", *names))
    for row in rows:
        percent, network, countermeasure, *accuracies = row.values()
        print(table_row(f"{percent} %", network, countermeasure, *map(figure, accuracies)))
    _draw(out / "figure.png", [row for row in rows if row["network"] == rows[0]["network"]])
    return 0


def _draw(path, rows):
    figure, axis = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for countermeasure in dict.fromkeys(row["countermeasure"] for row in rows):
        chosen = [row for row in rows if row["countermeasure"] == countermeasure]
        percent = [row["protected_percent"] for row in chosen]
        for name, line in (("mixture", "o-"), ("originals_in_it_alone", "s--"), ("all_originals", ":")):
            values = [np.nan if row[name] is None else row[name] for row in chosen]
            axis.plot(percent, values, line, label=f"{name.replace('_', ' ')}, {countermeasure}")
    axis.set(
        xlabel="protected images (%)", ylabel="accuracy on clean test images", ylim=(0, None), title=rows[0]["network"]
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
