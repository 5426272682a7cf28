"""Several authorized networks, one release: what hackers get as keys are added, and what two releases give away.

Command:
    python -m experiments.several_keys --data-dir TFDS_FOLDER --out runs/several-keys [--scale small]
        [--keys 1,2,4,8] [--hackers cnn] [--countermeasures none,class-means]

Time: at the tiny scale (2,000 images) without countermeasures about a quarter of an hour on a CPU core shared with
others, the last rows not counted; what is finished is not done again.

Expect (table in docs/results, at the tiny scale): each network learns from the release as from the
originals, by construction, and hackers get more with every key, since the cells leave less: 1, 2, 4 and 8 keys leave
the perturbation 0.81, 0.67, 0.47 and 0.27 of its budget by calculation (`share_of_budget`, 8 levels and a step of 24).
The difference of two releases under the same first key tells the textures, and subtracting them gives a cnn all (0.47
of 0.46); averages, and what two unrelated keys give away, leave it 0.22 to 0.25.
"""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from experiments.composed import COLUMNS, EPS, Job, load_job, print_rows
from experiments.scales import parser
from experiments.tables import table_head, table_row
from ugejax.app.keys import build_authorized
from ugejax.app.protection import Partner
from ugejax.authorized import new_key
from ugejax.training import default_recipe
from ugejax.uge import Method
from ugejax.views import share_of_budget

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

LEVELS = round(255 * EPS)
BACKBONES = ("mlp", "res-tiny", "cnn-nonorm")  # of the second key on, in turn


def jobs_of(first: Job, count: int) -> list[Job]:
    """The first job and further ones with keys of their own, as several `--key` and `--seed 0` make them."""
    jobs = [first]
    for place in range(1, count):
        network = BACKBONES[(place - 1) % len(BACKBONES)]
        key = new_key(
            f"seed 0 key {place + 1}".encode(), form=first.key.form, network=network,
            image_shape=first.key.image_shape, num_classes=first.key.num_classes, step=first.key.step,
            recipe=default_recipe(network), from_seed=True,
        )  # fmt: skip
        jobs.append(replace(first, key=key, network=build_authorized(key)))
    return jobs


def of_one_release(jobs: list[Job]) -> list[Job]:
    """The jobs with the salt of the release that they make together."""
    salt = jobs[0].key.release_salt(" ".join(job.key.fingerprint for job in jobs))
    return [replace(job, network=job.network.of_release(salt)) for job in jobs]


def release_for(jobs: list[Job], folder: Path) -> np.ndarray:
    """One release that all of these keys' networks learn from."""
    jobs = of_one_release(jobs)
    others = tuple(
        Partner(job.network, job.key.recipe, job.key.prng("training"), folder / job.key.fingerprint) for job in jobs[1:]
    )
    protection = replace(jobs[0].protection(Method()), others=others)
    return protection.run(jobs[0].train.images, jobs[0].train.labels, folder / jobs[0].key.fingerprint)


def average(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The middle of two releases of the same originals, uint8."""
    return ((first.astype(np.int16) + second + 1) // 2).astype(np.uint8)


def subtract_difference(first: np.ndarray, second: np.ndarray, labels: np.ndarray, amount: float) -> np.ndarray:
    """The first release less the texture that its difference from the second tells, uint8.

    The originals cancel in the difference, and over a class its mean is large where the textures, or the room that the
    cells leave the same texture, differ; its sign there is that of the first texture.

    Args:
        first: uint8 [N, H, W, C].
        second: another release of the same originals.
        labels: int [N].
        amount: grey levels to subtract: what the texture is on average.
    """
    difference = first.astype(np.float64) - second
    means = np.stack([difference[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)])
    told = np.abs(means) > np.quantile(np.abs(means), 0.9) / 2
    return np.clip(np.rint(first - amount * (np.sign(means) * told)[labels]), 0, 255).astype(np.uint8)


def texture_left(images: np.ndarray, originals: np.ndarray, labels: np.ndarray) -> float:
    """What is common to the perturbations of a class: mean absolute value of their class means, in grey levels."""
    residue = images.astype(np.float64) - originals
    return float(np.mean([np.abs(residue[labels == k].mean(axis=0)).mean() for k in np.unique(labels)]))


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--keys", default="1,2,4,8", help="numbers of keys, comma-separated")
    arguments = arguments.parse_args()
    counts = sorted({int(count) for count in arguments.keys.split(",")})
    jobs = jobs_of(load_job(arguments, form="keyed-dither"), max(2, *counts))
    hackers, countermeasures = arguments.hackers or ("cnn",), arguments.countermeasures or ("none", "class-means")
    originals, labels, step = jobs[0].train.images, jobs[0].train.labels, jobs[0].key.step
    assert step is not None, "keyed-dither quantises"
    rows = []
    names = ("keys", "budget left: calculated", "measured", "role", "network", "originals", "release", "peak", "share")
    print(table_head(*names))
    for count in counts:
        folder = arguments.out / f"{count}-keys"
        released = release_for(jobs[:count], folder)
        left = {
            "share_calculated": share_of_budget([step] * count, LEVELS),
            "share_measured": float(np.abs(released.astype(int) - originals).mean()) / LEVELS,
        }
        for i, job in enumerate(of_one_release(jobs[:count])):
            for row in job.evaluate(
                released, folder / f"key-{i + 1}", hackers=() if i else hackers, countermeasures=("none",),
                authorized=True,
            ):  # fmt: skip
                rows.append({"keys": count, **left, **row})
                figures = [*left.values(), *(row[name] for name in COLUMNS)]
                cells = [f"{figure:.3f}" for figure in figures]
                print(table_row(count, *cells[:2], row["role"], row["network"], *cells[2:]))
    leaks = compare_releases(jobs, arguments.out, labels, share_of_budget([step], LEVELS) * LEVELS)
    leak_rows = {
        name: jobs[0].evaluate(
            images, arguments.out / name.replace(" ", "-"), hackers=hackers, countermeasures=countermeasures
        )
        for name, images in leaks.items()
    }
    print()
    print_rows("what the hacker has", leak_rows)
    left = {name: texture_left(images, originals, labels) for name, images in leaks.items()}
    print("\n" + table_head("what the hacker has", "texture of a class left, grey levels"))
    for name, levels in left.items():
        print(table_row(name, f"{levels:.2f}"))
    summary = {"rows": rows, "leaks": leak_rows, "texture_left": left}
    (arguments.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(arguments.out / "figure.png", rows)
    return 0


def compare_releases(jobs: list[Job], folder: Path, labels: np.ndarray, amount: float) -> dict[str, np.ndarray]:
    """What a hacker makes of two releases of the same originals, by who has the second: uint8 [N, H, W, C] each."""
    alone = release_for(jobs[:1], folder / "1-keys")
    seconds = {
        "a key added": release_for(jobs[:2], folder / "2-keys"),
        "an unrelated key": release_for(jobs[1:2], folder / "unrelated"),
    }
    made = {"one release": alone}
    for name, second in seconds.items():
        made[f"average, {name}"] = average(alone, second)
        made[f"difference subtracted, {name}"] = subtract_difference(alone, second, labels, amount)
    return made


def draw(path: Path, rows: list[dict]) -> None:
    """Accuracies by the number of keys; of the authorized networks the least retention is told."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    counts = sorted({row["keys"] for row in rows})
    for network in dict.fromkeys(row["network"] for row in rows if row["role"] == "hacker"):
        of_network = [row for row in rows if row["role"] == "hacker" and row["network"] == network]
        (line,) = axis.plot(counts, [row["protected_accuracy"] for row in of_network], "o-", label=f"hacker {network}")
        axis.axhline(of_network[0]["clean_accuracy"], ls=":", color=line.get_color(), label=f"{network}, originals")
    retention = [min(r["retention"] for r in rows if r["role"] == "authorized" and r["keys"] == k) for k in counts]
    axis.plot(counts, retention, "s--", color="grey", label="least retention of a key")
    axis.set(xlabel="keys of one release", ylabel="accuracy on clean test images", ylim=(0, 1.05))
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
