"""A side of a case in a process of its own, so that neither's memory nor threads count for the other."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.bench.cases import Case

Answers = Mapping[str, Callable[[], Any]]


def clocked(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that a call took: by the clock, and of this process's CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def serve(prepare: Callable[[Case, Path], Answers]) -> None:
    """Answer the parent's questions, a line of standard input each, by a line of JSON on standard output.

    Args:
        prepare: prepare(case, folder) -> what can be asked for, and its function; the folder is shared by both sides.
    """
    case, folder = Case(**json.loads(sys.argv[1])), Path(sys.argv[2])
    # What linux counts in KiB, macOS counts in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    answers = {
        "peak_rss_mib": lambda: round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1),
        **prepare(case, folder),
    }
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)
