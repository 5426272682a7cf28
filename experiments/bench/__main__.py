"""The benchmark: each compiled step beside the same step in PyTorch and beside the machine's matrix-product rate.

Command:
    make bench [SCALE=accelerator]                                        which sets itself up, PyTorch included, or
    python -m experiments.bench [--out runs/bench] [--scale accelerator] [--networks cnn] [--before CHECKOUT]

Time: 20 minutes on one busy CPU core (--one-core) with --before; most of them compilation and `r18`.

Expect (table in docs/results): on one core `cnn` trains at 1.35 times PyTorch's rate at batch 32, 1.07 at batch 128
and 0.79 at batch 512, `r18` at 0.89; the gradient-matching update runs at 1.75 at batch 32 and 1.49 at batch 128, of
`r18` at 1.32. No figures of an accelerator yet.

Every row has a process for each side: ours, PyTorch's, and with --before that of another checkout of this project, such
as the last release. They start from the same weights and images, have to agree on their first step, and are then timed
in turn, one step each, beside a product of two large matrices and a wide convolution. Utilisation is the compiled
program's arithmetic over the rate of that product; results.json has it over that of the convolution too. Without
PyTorch (the extra `bench`) its columns stay empty. The device is that of either library's default. Whole commands are
timed by `experiments.bench.commands`.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench.cases import SCALES, Case, disagreement
from experiments.tables import table_head, table_row

# What two right sides may differ by (`disagreement` of a row). Sums in another order round otherwise, most of all where
# nearly equal gradients are subtracted. The sign of a small gradient may flip, which a first step of Adam goes by, as
# may a unit at zero, of which a deep network with batch norm has many.
LOSS_TOLERANCE, TOLERANCE = 1e-3, 3e-2
TF32_TOLERANCE = 1e-1  # elsewhere than on a CPU products have 10 bits

HERE = Path(__file__).parent.parent.parent


class Side:
    """A process that answers questions about a case."""

    def __init__(self, module: str, case: Case, folder: str, checkout: Path = HERE):
        """Start it, from the code of a checkout of this project; it is ready at its first answer."""
        self.name = f"{case.title}: {module}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"experiments.bench.{module}", json.dumps(dataclasses.asdict(case)), folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # two processes share the device
        )  # fmt: skip

    def __enter__(self):
        """Nothing more to do."""
        return self

    def __exit__(self, *_):
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()

    def __call__(self, question: str) -> Any:
        """The answer.

        Raises:
            SystemExit: the process has failed; it has said why.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            raise SystemExit(f"{self.name} failed") from None


class Disagreement(Exception):
    """A row that is not timed, since another side's step and ours differ."""


def measure(case: Case, *, with_torch: bool, before: Path | None, clock: int) -> dict[str, Any]:
    """The row of a case.

    Args:
        case: what to measure.
        with_torch: whether PyTorch is there.
        before: another checkout of this project to compare with, if any.
        clock: which of the times of `clocked` counts.

    Raises:
        Disagreement: the sides do not do the same.
        SystemExit: one failed.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sides, apart = {"ours": stack.enter_context(Side("ours", case, folder))}, {}
        facts = sides["ours"]("facts")
        on_cpu = facts["backend"] == "cpu"
        others = {"torch": ("in_torch", folder, HERE)} if with_torch else {}
        if before is not None:
            others["before"] = ("ours", stack.enter_context(tempfile.TemporaryDirectory()), before)
        for name, (module, place, checkout) in others.items():
            sides[name] = stack.enter_context(Side(module, case, place, checkout))
            sides[name]("facts")
            theirs = Path(place, "torch.npz" if module == "in_torch" else "ours.npz")
            ends = (Path(folder, "before.npz"), Path(folder, "ours.npz"), theirs)
            apart[name] = disagreement(*(dict(np.load(path)) for path in ends))
            for kind, share in apart[name].items():
                exact = LOSS_TOLERANCE if kind == "loss" else TOLERANCE
                if not share <= (exact if on_cpu else TF32_TOLERANCE):
                    who = "PyTorch's" if name == "torch" else f"{before}'s"
                    raise Disagreement(f"{case.title}: {who} {kind} and ours differ by {share:.1e}: not the same step")
        times: dict[str, list[float]] = {name: [] for name in ("product", "convolution", *sides)}
        for _ in range(case.repeats):
            for floor in ("product", "convolution"):
                times[floor].append(sides["ours"](f"{floor}_seconds")[clock])
            for name, side in sides.items():
                times[name].append(side("seconds")[clock])
        peaks = {name: side("peak_rss_mib") for name, side in sides.items()}
    seconds = {name: np.array(values) for name, values in times.items()}
    rates = {floor: facts[f"{floor}_flops"] / seconds[floor] for floor in ("product", "convolution")}
    row = {
        "name": case.name,
        "loss": case.loss,
        "network": case.network,
        "batch": case.batch,
        "steps": case.steps,
        "backend": facts["backend"],
        "device": facts["device"],
        "repeats": case.repeats,
        **_median("images_per_second", case.images / seconds["ours"]),
        # Of pairs of neighbouring times, so that what else the machine does cancels.
        **_median("utilisation", facts["flops"] / seconds["ours"] / rates["product"]),
        **_median("utilisation_of_convolution", facts["flops"] / seconds["ours"] / rates["convolution"]),
        **_median("product_flops_per_second", rates["product"]),
        **_median("convolution_flops_per_second", rates["convolution"]),
        "flops": facts["flops"],
        "bytes_accessed": facts["bytes_accessed"],
        "peak_rss_mib": peaks["ours"],
        "compile_seconds": facts["compile_seconds"],
        "disagreement": apart,
    }
    for name in ("torch", "before"):
        row |= {f"{name}_images_per_second": None, f"ratio_to_{name}": None, f"{name}_peak_rss_mib": peaks.get(name)}
        if name in seconds:
            row |= _median(f"{name}_images_per_second", case.images / seconds[name])
            row |= _median(f"ratio_to_{name}", seconds[name] / seconds["ours"])
    return row


def _median(name: str, values: np.ndarray) -> dict[str, Any]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {name: float(middle), f"{name}_quartiles": [float(low), float(high)]}


COLUMNS = (
    "name", "loss", "network", "batch", "steps", "images/s", "PyTorch", "ratio", "before", "ratio", "utilisation",
    "GFLOP", "GB moved", "MiB", "PyTorch MiB", "compile s",
)  # fmt: skip
HEADER = table_head(*COLUMNS)


def line(row: dict[str, Any]) -> str:
    """A row of the table: medians, in brackets the quartiles."""

    def cell(name: str, form: str) -> str:
        if row[name] is None:
            return ""
        low, high = row[f"{name}_quartiles"]
        return f"{row[name]:{form}} ({low:{form}}-{high:{form}})"

    cells = [
        row["name"], row["loss"], row["network"], row["batch"], row["steps"], cell("images_per_second", ".0f"),
        cell("torch_images_per_second", ".0f"), cell("ratio_to_torch", ".2f"),
        cell("before_images_per_second", ".0f"), cell("ratio_to_before", ".2f"), cell("utilisation", ".2f"),
        f"{row['flops'] / 1e9:.1f}", f"{row['bytes_accessed'] / 1e9:.1f}", f"{row['peak_rss_mib']:.0f}",
        "" if row["torch_peak_rss_mib"] is None else f"{row['torch_peak_rss_mib']:.0f}", row["compile_seconds"],
    ]  # fmt: skip
    return table_row(*cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for results.json")
    parser.add_argument("--scale", choices=list(SCALES), default="cpu")
    parser.add_argument(
        "--one-core", action="store_true",
        help="both sides on one core and by CPU time, which other work on the machine hardly disturbs (Linux)",
    )  # fmt: skip
    parser.add_argument("--networks", help="comma-separated; those of the scale unless told")
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="another checkout of this project, timed as well"
    )
    arguments = parser.parse_args()
    chosen = None if arguments.networks is None else arguments.networks.split(",")
    with_torch = importlib.util.find_spec("torch") is not None
    if arguments.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # what is started inherits it
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in SCALES[arguments.scale]:
        if chosen is not None and case.network not in chosen:
            continue
        try:
            clock = int(arguments.one_core)
            rows.append(measure(case, with_torch=with_torch, before=arguments.before, clock=clock))
        except Disagreement as error:
            print(error)
            continue
        print(line(rows[-1]) if len(rows) > 1 else f"{HEADER}\n{line(rows[-1])}", flush=True)
        (arguments.out / "results.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    for floor in ("product", "convolution"):
        rates = [row[f"{floor}_flops_per_second"] / 1e9 for row in rows]
        print(f"{floor}s: {np.median(rates):.0f} GFLOP/s ({min(rates):.0f}-{max(rates):.0f} from row to row)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
