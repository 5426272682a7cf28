"""Ablation of the budget: 2, 4, 8 and 16 grey levels, each with its own quantiser step of 3 eps.

Command:
    python -m experiments.ablation_eps --data-dir TFDS_FOLDER --out runs/ablation-eps [--scale small]

Time: about 20 minutes on two CPU cores at the small scale; what is finished is not done again.

Expect (table in docs/results): the larger the budget, the less hackers get, and the authorized network too.
"""

from experiments.variants import ablate

VARIANTS = {f"{levels}/255": {"settings": {"eps": levels / 255}} for levels in (2, 4, 8, 16)}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "eps", VARIANTS))
