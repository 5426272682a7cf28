"""Does the protection hold? Authorized network and hackers on CIFAR-10 over several keys, with and without crop + flip.

Command:
    python -m experiments.robustness --data-dir TFDS_FOLDER --out runs/robustness [--scale small] [--seeds 3]

Time: at the small scale (5,000 training and 2,000 test images, budget 8/255) about 45 minutes a seed on two CPU
cores, 15 with --countermeasures none; what is finished is not done again.

Expect (table in docs/results): the authorized network keeps 98 % of its backbone's accuracy; hackers get 0.20 on
average without augmentation, the worst network 0.26 in the mean of three keys; with crops and flips convolutions get
0.23 and a perceptron 0.29.
"""

import json
from statistics import mean, stdev

from experiments.main_job import job_parser, main_job, protect_and_evaluate
from experiments.tables import table_head, table_row


def main() -> int:
    arguments = job_parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3, help="protections, each with a key and a subset of its own")
    arguments.add_argument("--form", default="keyed-dither", help="authorized form")
    arguments = arguments.parse_args()
    runs = [
        protect_and_evaluate(
            main_job(arguments, countermeasures=("none", "crop-flip"), form=arguments.form, seed=seed),
            arguments.out / f"seed-{seed}",
        )
        for seed in range(arguments.seeds)
    ]
    rows = summarise([row for run in runs for row in run["rows"]])
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    accuracies = ("on originals", "on the release", "peak", "backbone")
    print(table_head("role", "network", "countermeasure", *accuracies, "seeds"))
    for row in rows:
        print(table_row(*row.values()))
    return 0


def summarise(rows: list[dict]) -> list[dict]:
    """Mean and standard deviation over the seeds of each network under each countermeasure."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["role"], row["network"], row["countermeasure"]), []).append(row)

    def spread(values: list[float]) -> str:
        return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

    return [
        {
            "role": role,
            "network": network,
            "countermeasure": countermeasure,
            **{
                name: spread([row[name] for row in group])
                for name in ("clean_accuracy", "protected_accuracy", "protected_peak_accuracy")
            },
            "backbone_accuracy": spread([row["backbone_accuracy"] for row in group]) if role == "authorized" else "",
            "seeds": len(group),
        }
        for (role, network, countermeasure), group in groups.items()
    ]


if __name__ == "__main__":
    raise SystemExit(main())
