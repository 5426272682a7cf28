"""The main table: three data sets, several authorized networks, both sides without counter-measure.

Command:
    python -m experiments.main_table --data-dir TFDS_FOLDER --photos TINY_IMAGENET_FOLDER --out runs/main-table
        [--scale small] [--networks cnn,res-tiny,mlp]

Time: at the tiny scale (2,000 images) with --networks cnn,res-tiny,mlp and --hackers cnn two to eight minutes a row of
a CPU core that others share; what is finished is not done again.

Expect: each authorized network gets the same of release and originals, by construction; for the rest see
`experiments.datasets`.
"""

from experiments.datasets import arguments_of, table


def main() -> int:
    return table(arguments_of(__doc__, sets="cifar10,cifar100,tiny-imagenet").parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
