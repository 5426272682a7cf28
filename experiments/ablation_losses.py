"""Ablation of the losses: gradient matching, feature distance and undistillation, on and off, on `frozen-backbone`.

Command:
    python -m experiments.ablation_losses --data-dir TFDS_FOLDER --out runs/ablation-losses [--scale small]

Time: at the tiny scale (2,000 images) with --hackers cnn a minute or two a variant, of one CPU core that others
share; what is finished is not done again.

Expect (table in docs/results, at the tiny scale): without the feature distance a hacker's peak is 0.09 higher.
Gradient matching and undistillation show nothing there, where a head on random features learns little in the first
place.
"""

from experiments.variants import ablate

SETTINGS: dict[str, dict[str, float]] = {
    "all but undistillation": {},
    "no gradient matching": {"gradient_matching": 0.0},
    "no feature distance": {"feature_distance": 0.0},
    "all": {"undistillation": 1.0},
}
VARIANTS = {name: {"form": "frozen-backbone", "settings": settings} for name, settings in SETTINGS.items()}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "losses", VARIANTS))
