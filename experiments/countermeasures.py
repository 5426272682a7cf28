"""How far does each countermeasure undo a release? Each beside the same one on originals, on CIFAR-10.

Command:
    python -m experiments.countermeasures --data-dir TFDS_FOLDER --out runs/countermeasures [--scale small]

Time: at the small scale (5,000 training and 2,000 test images, budget 8/255, hacker cnn, one seed) two hours on one
CPU core; what is finished is not done again.

Expect (table in docs/results): augmentation and filters that need no knowledge of the method leave a hacker with half
of what the same countermeasure leaves him of originals, JPEG with two thirds, and a hacker who knows the method and
projects the classes' directions out, or subtracts their textures, with three quarters; filters together with crops and
flips with five sixths.
"""

from statistics import mean

from experiments.main_job import job_parser, main_job, protect_and_evaluate
from experiments.tables import figure, table_head, table_row

AUGMENTATION = ("crop-flip", "cutout", "mixup", "cutmix")
FILTERS = ("grey", "blur", "bdr", "jpeg-10", "jpeg-30", "jpeg-75", "low-pass", "total-variation")
# Columns of APBench's table: it crops and flips in every one of them.
FIELD = tuple(f"{name}+crop-flip" for name in ("cutout", "mixup", "cutmix", "grey", "blur", "bdr", "jpeg-10"))
ADAPTIVE = ("class-means", "orthogonal-projection", "key-recovery", "spectrum-notch", "random-projections")
ORIGINALS = ("clean-5", "only-clean-5", "clean-20", "only-clean-20")


def main() -> int:
    arguments = job_parser(__doc__).parse_args()
    arguments.hackers = arguments.hackers or ("cnn",)
    names = ("none", *AUGMENTATION, *FILTERS, *FIELD, *ADAPTIVE, *ORIGINALS)
    results = protect_and_evaluate(main_job(arguments, countermeasures=names), arguments.out)
    print(table_head("countermeasure", "network", "on originals", "on the release", "peak", "share"))
    for row in results["rows"]:
        if row["role"] == "hacker":
            cells = [row[f"{kind}_accuracy"] for kind in ("clean", "protected", "protected_peak")] + [row["retention"]]
            print(table_row(row["countermeasure"], row["network"], *map(figure, cells)))
    groups = {
        "need not know the method": (*AUGMENTATION, *FILTERS),
        "crop and flip as APBench does": ("crop-flip", *FIELD),
        "know it": ADAPTIVE,
    }
    for title, chosen in groups.items():
        shares = [
            row["retention"] for row in results["rows"] if row["role"] == "hacker" and row["countermeasure"] in chosen
        ]
        if shares:
            print(f"\nmean share of {len(shares)} countermeasures that {title}: {mean(shares):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
