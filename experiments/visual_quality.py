"""What does a release look like? Realised budget, PSNR, SSIM, bytes and a picture of every method's, on CIFAR-10.

Command:
    python -m experiments.visual_quality --data-dir TFDS_FOLDER --out runs/visual-quality [--scale small]
        [--methods uge,lsp,tap,...]

Time: at the small scale the default methods, which optimise nothing, four minutes on a CPU core shared with others; a
method that trains surrogates up to a quarter of an hour; what is finished is not done again.

Expect (table in docs/results): class-wise noise of full amplitude near 30 dB at 8/255, and noise that PNG compresses
worse than the image.
"""

import io
import json

import matplotlib
import numpy as np
from PIL import Image

from experiments.tables import figure, table_head, table_row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from experiments.main_job import job_parser, main_job, protect  # noqa: E402

SHORTCUTS = "uge,lsp,ar,ops,cuda,random,random-class"
SHOWN = 6


def main() -> int:
    arguments = job_parser(__doc__)
    arguments.add_argument("--methods", default=SHORTCUTS, help="comma-separated; see `ugejax list`")
    arguments = arguments.parse_args()
    rows, strips = [], {}
    for method in arguments.methods.split(","):
        job = main_job(arguments, baseline=None if method == "uge" else method, subset_seed=0)
        protected = protect(job, arguments.out / method)
        originals, released, card = protected.train.images, protected.released, protected.card
        difference = released.astype(int) - originals
        rows.append(
            {
                "method": method, "linf": int(np.abs(difference).max()), "psnr": card["psnr"]["mean"],
                "psnr_min": card["psnr"]["min"], "ssim": card["ssim"]["mean"],
                "png_bytes": _png_bytes(released) / _png_bytes(originals),
                "without_colour": without_colour(difference),
            }
        )  # fmt: skip
        strips[method] = (originals[:SHOWN], released[:SHOWN])
    (arguments.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    figures = ("PSNR (dB)", "worst PSNR", "SSIM", "PNG bytes beside the originals", "noise without colour")
    print(table_head("method", "largest change (grey levels)", *figures))
    for row in rows:
        cells = (row["method"], row["linf"], f"{row['psnr']:.2f}", f"{row['psnr_min']:.2f}", figure(row["ssim"]))
        print(table_row(*cells, f"{row['png_bytes']:.2f}", f"{row['without_colour']:.2f}"))
    _draw(arguments.out / "figure.png", strips)
    return 0


def without_colour(difference: np.ndarray) -> float:
    """The share of the noise's energy that its channels have in common: 1/3 where three know nothing of one another."""
    common = difference.mean(axis=-1, keepdims=True) * np.ones(difference.shape[-1])
    return float((common**2).sum() / max(1, (difference**2).sum()))


def _png_bytes(images: np.ndarray, most: int = 200) -> int:
    total = 0
    for image in images[:most]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        total += buffer.tell()
    return total


def _draw(path, strips):
    """A row a method: released images, then the differences, each scaled to the grey scale by its own largest."""
    figure, axes = plt.subplots(
        len(strips), 2 * SHOWN, figsize=(2 * SHOWN + 1, len(strips) + 0.4), squeeze=False, layout="constrained"
    )
    for line, (method, (originals, released)) in zip(axes, strips.items(), strict=True):
        difference = released.astype(float) - originals
        largest = max(1.0, np.abs(difference).max())
        for axis, image in zip(line, [*released, *(difference / (2 * largest) + 0.5)], strict=True):
            axis.imshow(image)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(method, fontsize=9, rotation=0, ha="right", va="center")
        line[SHOWN].set_title(f"difference, ±{largest:.0f} grey levels", fontsize=8, loc="left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
