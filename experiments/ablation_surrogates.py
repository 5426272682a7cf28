"""Ablation of the surrogates: how many, for sample-wise error-minimising noise in the cells of `keyed-dither`.

Command:
    python -m experiments.ablation_surrogates --data-dir TFDS_FOLDER --out runs/ablation-surrogates [--scale small]

Time: about 6 minutes of one CPU core that others share at the tiny scale (2,000 images) with --hackers cnn; what is
finished is not done again.

Expect (table in docs/results, at the tiny scale): one surrogate and two leave a cnn, which is none of them, the same;
a third does not help.
"""

from experiments.variants import ablate

SURROGATES = (("res-tiny",), ("res-tiny", "mlp"), ("res-tiny", "mlp", "cnn-nonorm"))
VARIANTS = {
    ", ".join(surrogates): {"settings": {"parametrisation": "sample-wise", "epochs": 15, "surrogates": surrogates}}
    for surrogates in SURROGATES
}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "surrogates", VARIANTS))
