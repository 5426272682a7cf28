"""The main table: three data sets, several authorized networks, both sides without countermeasure.

Command:
    python -m experiments.main_table --data-dir TFDS_FOLDER --photos TINY_IMAGENET_FOLDER --out runs/main-table
        [--scale small] [--networks cnn,res-tiny,mlp]

Time: at the tiny scale (2,000 images) with --networks cnn,res-tiny,mlp and --hackers cnn half an hour of a CPU
core; what is finished is not done again.

Expect (table in docs/results, at the tiny scale): each authorized network gets the same of release and originals, by
construction, and a hacker's cnn about half or less: 0.204 of 0.449 on CIFAR-10, 0.058 of 0.136 on CIFAR-100, 0.118 of
0.228 on Tiny-ImageNet.
"""

from experiments.datasets import arguments_of, table


def main() -> int:
    return table(arguments_of(__doc__, sets="cifar10,cifar100,tiny-imagenet").parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
