"""Runs a command in its own process and returns its time and peak memory."""

import os
import subprocess
import sys
import time
from pathlib import Path


def measured(command: list[str], *, cwd: Path | None = None, **environment: str) -> dict[str, float]:
    """What `python -m command` took: seconds, cpu_seconds and peak_rss_mib; its standard output goes nowhere.

    Args:
        command: module and arguments.
        cwd: folder that it runs in, and whose modules it finds first.
        environment: beside that of this process.

    Raises:
        SystemExit: it failed; it has said why.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, cwd=cwd, env=os.environ | environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss in bytes
    return {
        "seconds": time.perf_counter() - began, "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_mib": usage.ru_maxrss * unit / 2**20,
    }  # fmt: skip
