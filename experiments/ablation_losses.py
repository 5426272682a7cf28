"""Ablation of the losses: gradient matching, feature distance and undistillation, on and off, on `frozen-backbone`.

Command:
    python -m experiments.ablation_losses --data-dir TFDS_FOLDER --out runs/ablation-losses [--scale small]

Time: not measured yet at any scale; what is finished is not done again.

Expect: there are no figures yet. To be tested: without gradient matching the
authorized network is harmed like everybody; without the feature distance nobody is.
"""

from experiments.variants import ablate

FORM = ["--authorized", "frozen-backbone"]
VARIANTS = {
    "all but undistillation": FORM,
    "no gradient matching": [*FORM, "--gradient-matching", "0"],
    "no feature distance": [*FORM, "--feature-distance", "0"],
    "all": [*FORM, "--undistillation", "1"],
}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "losses", VARIANTS))
