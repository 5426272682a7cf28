"""What only an accelerator can tell: is it right there, how fast is it, and which way of writing is the faster one?

Command:
    python -m experiments.accelerator --out DIR [--minutes 10] [--scale full] [--data-dir TFDS_FOLDER]

Time: as many minutes as are given, and what is then in progress; what is finished is kept, so that the command can be
given again. Of the scales `smoke` and `small` are for a processor.

Expect (no figures of an accelerator yet): every case of `equality` agrees with the results that a processor recorded
(experiments/results/accelerator-reference.json; `--record` adds those that it lacks, on a processor).

It runs on whatever `jax.devices()` gives, in stages ordered by what they are worth. Each writes DIR/STAGE.json, row by
row, and is left out when that says that it is done; one that fails is told, and the next one begins.
"""

import argparse
import json
import os
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Beside PyTorch there are two processes on the device, and peaks of memory are those of what is asked for.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402

from experiments.accelerator import equality, full_size, timings  # noqa: E402
from experiments.accelerator.scale import SCALES, Job  # noqa: E402
from ugejax.app.allocator import keep_freed_memory  # noqa: E402
from ugejax.app.files import replaced  # noqa: E402
from ugejax.compiler import compiler_options, training_dtype  # noqa: E402


def devices(job: Job) -> Iterator[dict[str, Any]]:
    """What there is."""
    for device in jax.devices():
        yield {
            "platform": device.platform, "kind": device.device_kind, "memory": device.memory_stats(),
            "processes": jax.process_count(), "jax": jax.__version__, "jaxlib": version("jaxlib"),
            "compiler_options": compiler_options(), "training_dtype": str(training_dtype()),
        }  # fmt: skip


STAGES: dict[str, full_size.Stage] = {
    "devices": devices,
    "equality": equality.equality,
    "steps": timings.steps,
    "bfloat16": full_size.bfloat16,
    "bulk": timings.bulk,
    "ways": timings.ways,
    "together": timings.together,
    "full-size": full_size.full_size,
    "beside-torch": timings.beside_torch,
    "matched": full_size.matched,
    "demo": full_size.demo,
}


def finished(file: Path) -> bool:
    """Whether a stage's file says that it is done."""
    return file.is_file() and json.loads(file.read_text())["done"]


def run(name: str, job: Job, end: float) -> bool:
    """Run a stage until it or the time is over.

    Args:
        name: of the stage.
        job: what it is given.
        end: the moment of `time.monotonic` after which no row is begun.

    Returns:
        Whether all of it is done, or failed for good.
    """
    file, rows, began = job.out / f"{name}.json", [], time.monotonic()
    kept: dict[str, Any] = {"done": False, "error": None, "seconds": 0.0, "rows": rows}

    def keep(**changes: Any) -> None:
        kept.update(changes, seconds=time.monotonic() - began)
        with replaced(file, shared=True) as opened:
            opened.write(json.dumps(kept, indent=1).encode() + b"\n")

    coming = STAGES[name](job)
    try:
        while time.monotonic() < end:
            row = next(coming, None)
            if row is None:
                keep(done=True)
                return True
            rows.append(row)
            keep()
            print(f"{name}: {json.dumps(row)}", flush=True)
    except Exception as error:  # the stages after it are worth as much as before
        traceback.print_exc()
        keep(error=f"{type(error).__name__}: {error}")
        return True
    return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; what is finished is kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing is begun (%(default)g)")
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets; random images without it")
    parser.add_argument("--record", action="store_true", help="write what other devices are compared with, on a CPU")
    arguments = parser.parse_args(argv)
    if arguments.record:
        equality.record(SCALES[arguments.scale])
        return 0
    keep_freed_memory()
    end = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    job = Job(SCALES[arguments.scale], arguments.out, arguments.data_dir)
    left = [name for name in STAGES if not finished(arguments.out / f"{name}.json")]
    while left and run(left[0], job, end):
        left.pop(0)
    kept = [json.loads((arguments.out / f"{name}.json").read_text()) for name in STAGES if name not in left]
    wrong = [row["name"] for stage in kept for row in stage["rows"] if row.get("agrees") is False]
    failed = [name for name, stage in zip((n for n in STAGES if n not in left), kept, strict=True) if stage["error"]]
    print(f"left for another time: {', '.join(left) or 'nothing'}; failed: {', '.join(failed) or 'none'}")
    print(f"do not agree with the CPU: {', '.join(wrong) or 'none'}")
    return int(bool(failed or wrong))


if __name__ == "__main__":
    raise SystemExit(main())
