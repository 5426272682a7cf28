"""Ablation of the perturbation's frequency: the middle period of the stripes in pixels.

Command:
    python -m experiments.ablation_period --data-dir TFDS_FOLDER --out runs/ablation-period [--scale small]

Time: about 20 minutes on two CPU cores at the small scale; what is finished is not done again.

Expect (table in docs/results): convolutional hackers are harmed most by short periods, perceptrons by longer ones.
"""

from experiments.variants import ablate

VARIANTS = {str(period): {"settings": {"period": period}} for period in (4, 7, 10, 14, 20)}

if __name__ == "__main__":
    raise SystemExit(ablate(__doc__, "period", VARIANTS))
