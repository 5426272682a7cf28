"""How does training go, epoch by epoch? Both sides on the release of UGE, hackers on those of baselines, on CIFAR-10.

Command:
    python -m experiments.training_curves --data-dir TFDS_FOLDER --out runs/training-curves [--scale small]
        [--methods uge,lsp,ops] [--hackers cnn] [--countermeasures none,crop-flip]

Time: at the tiny scale (2,000 images) ten minutes for uge and lsp on a CPU core shared with others; what is finished is
not done again.

Expect (at the tiny scale): hackers peak in the first epochs, before the shortcut is learned,
and fall from there; the authorized network rises as on originals.
"""

import json

from experiments.main_job import job_parser, main_job, protect_and_evaluate
from experiments.tables import figure, table_head, table_row
from ugejax.app.report import draw_curves


def main() -> int:
    arguments = job_parser(__doc__)
    arguments.add_argument("--methods", default="uge,lsp,ops", help="comma-separated; see `ugejax list`")
    arguments = arguments.parse_args()
    arguments.hackers = arguments.hackers or ("cnn",)
    who = ("method", "role", "network", "countermeasure")
    print(table_head(*who, "on originals", "on the release", "peak", "at epoch"))
    kept = []
    for method in arguments.methods.split(","):
        baseline = None if method == "uge" else method
        job = main_job(arguments, countermeasures=("none", "crop-flip"), baseline=baseline, subset_seed=0)
        rows = protect_and_evaluate(job, arguments.out / method)["rows"]
        draw_curves(arguments.out / f"{method}.png", rows, [row["by_epoch"] for row in rows])
        for row in rows:
            curve = row["by_epoch"]["protected"]
            cells = [method, row["role"], row["network"], row["countermeasure"]]
            cells += [figure(row[f"{kind}_accuracy"]) for kind in ("clean", "protected", "protected_peak")]
            print(table_row(*cells, 1 + curve.index(max(curve))))
            kept.append({"method": method, **row})
    (arguments.out / "summary.json").write_text(json.dumps({"rows": kept}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
