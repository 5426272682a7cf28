"""An ablation: the main job once for each variant of a setting, as a table, as JSON and as a figure."""

import json
from collections.abc import Mapping
from typing import Any

import matplotlib

from experiments.tables import figure, table_head, table_row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from experiments.main_job import job_parser, main_job, protect_and_evaluate  # noqa: E402


def ablate(description: str | None, name: str, variants: Mapping[str, Mapping[str, Any]]) -> int:
    """Protect and evaluate with each variant; seed 0, hackers cnn and mlp without countermeasure unless told.

    Args:
        description: the experiment's docstring.
        name: what varies, for the figure's axis.
        variants: for each value what it changes of a `MainJob`.
    """
    arguments = job_parser(description).parse_args()
    arguments.hackers = arguments.hackers or ("cnn", "mlp")
    rows = []
    for value, changes in variants.items():
        folder = arguments.out / "".join(c if c.isalnum() else "-" for c in value)
        results = protect_and_evaluate(main_job(arguments, **changes), folder)
        psnr = results["card"]["psnr"]["mean"]
        rows += [{name: value, "psnr": round(psnr, 2), **row} for row in results["rows"]]
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    who = ("role", "network", "countermeasure")
    print(table_head(name, "PSNR", *who, "on originals", "on the release", "peak", "backbone"))
    for row in rows:
        accuracies = [row.get(f"{kind}_accuracy") for kind in ("clean", "protected", "protected_peak", "backbone")]
        cells = [row[name], row["psnr"], row["role"], row["network"], row["countermeasure"]]
        print(table_row(*cells, *map(figure, accuracies)))
    _draw(arguments.out / "figure.png", name, list(variants), rows)
    return 0


def _draw(path, name, values, rows):
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    series: dict[str, list[float]] = {}
    for row in rows:
        label = f"{row['role'].replace('_', ' ')} {row['network']}, {row['countermeasure']}"
        series.setdefault(label, []).append(row["protected_accuracy"])
    for label, accuracies in series.items():
        axis.plot(values, accuracies, "o-", label=label)
    axis.set(xlabel=name, ylabel="accuracy on clean test images", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
