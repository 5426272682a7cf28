"""What does a student of the trained authorized network learn, and what does the undistillation loss change?

Command:
    python -m experiments.distillation --data-dir TFDS_FOLDER --out runs/distillation [--scale small]

Time: not measured yet at any scale; what is finished is not done again.

Expect: there are no figures yet. To be tested: soft answers on the hacker's
own natural images teach most; on released images the student takes the perturbation for the picture, like everybody
else. The default form sees no difference between a released image and its original, so there undistillation has
nothing to change.
"""

import json

from experiments.scales import parser, protect_and_evaluate
from ugejax.evaluation import DISTILLATIONS

VARIANTS = {
    "keyed-dither": [],
    "frozen-backbone": ["--authorized", "frozen-backbone"],
    "frozen-backbone, undistillation": ["--authorized", "frozen-backbone", "--undistillation", "1"],
}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    arguments.hackers = arguments.hackers or "res-tiny"
    print("| variant | role | network | counter-measure or query | originals | release | peak |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name, settings in VARIANTS.items():
        folder = arguments.out / name.replace(", ", "-")
        results = protect_and_evaluate(
            folder, arguments, seed=0, settings=settings, countermeasures="none", distillation=",".join(DISTILLATIONS)
        )
        for row in results["rows"]:
            rows.append({"variant": name, **row})
            cells = [name, row["role"], row["network"], row["countermeasure"]]
            cells += [f"{row[f'{kind}_accuracy']:.3f}" for kind in ("clean", "protected", "protected_peak")]
            print("| " + " | ".join(cells) + " |")
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
