"""Ablation of the size of the secret part: the step of the keyed quantiser, from 1 to 6 times the budget of 8/255.

Command:
    python -m experiments.ablation_dither_step --data-dir TFDS_FOLDER --out runs/ablation-dither-step [--scale small]

Time: about 20 minutes on two CPU cores at the small scale; what is finished is not done again.

Expect (table in docs/results): a wider step leaves more of the perturbation and less for the authorized network.
"""

from experiments.variants import ablate

VARIANTS = {str(step): {"step": step} for step in (8, 16, 24, 48)}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "dither step", VARIANTS))
