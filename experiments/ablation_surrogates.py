"""Ablation of the surrogates: how many, for sample-wise error-minimising noise in the cells of `keyed-dither`.

Command:
    python -m experiments.ablation_surrogates --data-dir TFDS_FOLDER --out runs/ablation-surrogates [--scale small]

Time: not measured yet at any scale; what is finished is not done again.

Expect: there are no figures yet. To be tested: noise made with one surrogate
misses networks unlike it; more surrogates reach more.
"""

from experiments.variants import ablate

SAMPLE_WISE = ["--parametrisation", "sample-wise", "--perturbation-epochs", "15", "--surrogates"]
VARIANTS = {
    "res-tiny": [*SAMPLE_WISE, "res-tiny"],
    "res-tiny, mlp": [*SAMPLE_WISE, "res-tiny,mlp"],
    "res-tiny, mlp, cnn-nonorm": [*SAMPLE_WISE, "res-tiny,mlp,cnn-nonorm"],
}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "surrogates", VARIANTS))
