"""Which feature space should released images move in? Surrogates trained on the originals beside encoders on the disk.

Command:
    python -m experiments.feature_spaces --data-dir TFDS_FOLDER --out runs/feature-spaces [--scale small]
        --spaces r20=RESNET20.npz r56=RESNET56.npz clip=CLIP_FOLDER dinov2=DINOV2_FOLDER

Time: 15 minutes of a CPU core at the tiny scale (2,000 images) with r20, r56 and --hackers cnn; what is finished is not
done again.

Expect (table in docs/results, at the tiny scale): in the space of a published ResNet a cnn gets 0.19 of 0.47, of the
stripes alone 0.22 (at the peak 0.26 to 0.28, and 0.23); in that of small surrogates it gets 0.35.
"""

import json
from typing import Any

from experiments.main_job import job_parser, main_job, protect_and_evaluate
from experiments.tables import figure, table_head, table_row

DISTANCE = {"feature_loss": "distance", "epochs": 15}


def main() -> int:
    arguments = job_parser(__doc__)
    arguments.add_argument(
        "--spaces", nargs="*", default=[], metavar="NAME=PATH", help="as for `ugejax.feature_spaces.load_feature_space`"
    )
    arguments = arguments.parse_args()
    arguments.hackers = arguments.hackers or ("cnn", "mlp")
    variants: dict[str, dict[str, Any]] = {
        "stripes alone": {},
        "surrogates": {"settings": {**DISTANCE, "surrogates": ("res-tiny", "mlp")}},
    }
    for space in arguments.spaces:
        name, _, path = space.partition("=")
        variants[name] = {"settings": {**DISTANCE, "surrogates": ()}, "feature_space": path}
    print(table_head("feature space", "role", "network", "countermeasure", "on originals", "on the release", "peak"))
    rows = []
    for name, changes in variants.items():
        folder = arguments.out / name.replace(" ", "-")
        results = protect_and_evaluate(main_job(arguments, **changes), folder)
        for row in results["rows"]:
            rows.append({"feature_space": name, **row})
            cells = [name, row["role"].replace("_", " "), row["network"], row["countermeasure"]]
            cells += [figure(row[f"{kind}_accuracy"]) for kind in ("clean", "protected", "protected_peak")]
            print(table_row(*cells))
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
