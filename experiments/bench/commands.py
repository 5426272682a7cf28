"""Whole commands of `ugejax`, from a start with nothing compiled to the end: seconds, processor time, peak memory.

Command:
    python -m experiments.bench.commands [--commands demo,protect,evaluate] [--data-dir TFDS_FOLDER]
        [--before CHECKOUT] [--repeats 1] [--out runs/bench-commands]

Time: five minutes of one CPU core for `demo`; `protect` and `evaluate` are those of CIFAR-10 at the small scale (5,000
training and 2,000 test images, all default hackers), half a minute and twenty of one core that others share. --before
doubles it.

Expect: table in docs/results/speed.md.

With --before the same command of another checkout of this project follows each of ours, so that the ratio is of two
neighbours. What a user's cache would hold is made anew for each. It tests the commands themselves, so it runs them.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from experiments.bench.__main__ import HERE
from experiments.measured import measured
from experiments.scales import SCALES
from experiments.tables import table_head, table_row

COLUMNS = ("seconds", "cpu_seconds", "peak_rss_mib")


def arguments_of(name: str, data_dir: str | None, folder: Path) -> list[str]:
    """The command line of a row; `evaluate` finds in the folder what `protect` left there."""
    made = {"demo": folder / "demo", "protect": folder / "release", "evaluate": folder / "evaluation"}[name]
    key, out = ["--key", str(folder / "key")], ["--out", str(made)]
    if name == "demo":
        return ["demo", *out]
    if data_dir is None:
        raise SystemExit(f"{name} needs --data-dir: the folder of prepared TFDS data sets")
    if name == "protect":
        sizes = ["--n-train", str(SCALES["small"].n_train), "--n-test", str(SCALES["small"].n_test)]
        return ["protect", "cifar10", "--data-dir", data_dir, *sizes, "--seed", "0", *out, *key]
    return ["evaluate", str(folder / "release"), "--data-dir", data_dir, *out, *key]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default="demo,protect,evaluate", help="comma-separated, in this order")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="another checkout of this project, timed as well"
    )
    parser.add_argument("--repeats", type=int, default=1, help="how often each is run (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-commands"), help="folder for results.json")
    arguments = parser.parse_args()
    data_dir = None if arguments.data_dir is None else str(Path(arguments.data_dir).resolve())
    checkouts = {"ours": HERE} | ({"before": arguments.before.resolve()} if arguments.before else {})
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as place:
            for name in arguments.commands.split(","):
                for side, checkout in checkouts.items():
                    folder = Path(place, side)
                    command = ["ugejax", *arguments_of(name, data_dir, folder)]
                    cache = {"UGEJAX_CACHE": str(folder / "cache" / name)}
                    taken.setdefault((name, side), []).append(measured(command, cwd=checkout, **cache))
    rows = []
    columns = ("seconds", "processor", "MiB")
    print(table_head("command", "repeats", *columns, f"before: {columns[0]}", *columns[1:], "ratio"))
    for name in arguments.commands.split(","):
        ours, before = taken[name, "ours"], taken.get((name, "before"), [])
        row = {"name": name, "repeats": arguments.repeats}
        row |= {column: median(run[column] for run in ours) for column in COLUMNS}
        row |= {f"before_{column}": median(run[column] for run in before) if before else None for column in COLUMNS}
        ratios = [b["cpu_seconds"] / o["cpu_seconds"] for o, b in zip(ours, before, strict=False)]
        rows.append(row | {"ratio_to_before": median(ratios) if ratios else None})
        cells = [rows[-1][f"{side}{column}"] for side in ("", "before_") for column in COLUMNS]
        figures = ["" if cell is None else f"{cell:.1f}" for cell in cells]
        figures.append("" if not ratios else f"{rows[-1]['ratio_to_before']:.2f}")
        print(table_row(name, arguments.repeats, *figures), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
