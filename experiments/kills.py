"""Kill a command at seeded random moments, start it again, and compare its output with an undisturbed run.

Command:
    python -m experiments.kills --out runs/kills [--command protect] [--kills 10] [--seed 0]

Time: about ten seconds a kill on two CPU cores, for each of the commands protect, evaluate and arena; before that two
undisturbed runs, of which the second tells how long one takes when everything is compiled.

Expect: every kill leaves nothing or something whole, and in the end all files are byte for byte those of the
undisturbed run, times of training left out. results.json holds the moment of every kill and what was there after it.

It tests the commands themselves, so it runs them.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugejax.app.release import read_release
from ugejax.app.report.evidence import read_evidence
from ugejax.errors import UserError

SUBSET = ["--n-train", "300", "--n-test", "100"]
OPTIMISED = ["--authorized", "frozen-backbone", "--epochs", "4", "--perturbation-epochs", "6", "--snapshots", "4"]
# What differs between two undisturbed runs.
TIMES = {"seconds", "generation_seconds"}


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes:
        arguments: of `ugejax`, for a folder of its own and a folder of what is there before.
        leaves: what it makes in its own folder, the last of which it makes last.
    """

    arguments: Callable[[Path, Path], list[str]]
    leaves: tuple[str, ...]


VICTIMS = {
    "protect": Victim(
        lambda own, _: [
            "protect", "digits", *OPTIMISED, "--seed", "0", "--out", f"{own}/release", "--key", f"{own}/key"
        ],
        ("release",),
    ),
    "evaluate": Victim(
        lambda own, before: [
            "evaluate", f"{before}/release", "--key", f"{before}/key", "--out", f"{own}/evaluation", "--hackers",
            "mlp,wrong-key", "--countermeasures", "none,blur", "--epochs", "3", "--cache", f"{own}/cache",
        ],
        ("evaluation/images.png", "evaluation/accuracy.png", "evaluation/evidence.npz", "evaluation/results.json"),
    ),
    "arena": Victim(
        lambda own, _: [
            "arena", "digits", *SUBSET, "--out", f"{own}/arena", "--methods", "uge,random-class,lsp", "--set",
            "lsp.block=2", "--networks", "mlp", "--authorized-network", "mlp", "--countermeasures", "none,blur",
            "--epochs", "3", "--cache", f"{own}/cache",
        ],
        (*(f"arena/releases/{method}-0" for method in ("uge", "random-class", "lsp")), "arena/results.json"),
    ),
}  # fmt: skip


def start(arguments: list[str], cache: Path) -> subprocess.Popen:
    """The command in a process of its own; what it compiles is kept in a folder."""
    command = [sys.executable, "-m", "ugejax", *arguments]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    """Wait for a command that has to succeed."""
    error = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"the command failed: {error}")


def without_times(value: Any) -> Any:
    """Results without what differs from run to run."""
    if isinstance(value, dict):
        return {name: without_times(some) for name, some in value.items() if name not in TIMES}
    return [without_times(some) for some in value] if isinstance(value, list) else value


def contents(own: Path, victim: Victim) -> dict[str, str]:
    """SHA-256 of each file that the command leaves for others; of results without their times."""
    found = {}
    for name in victim.leaves:
        path = own / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            content = file.read_bytes()
            if file.name == "results.json":
                content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
                content = content.replace(str(own).encode(), b"")
            found[str(file.relative_to(own))] = hashlib.sha256(content).hexdigest()
    return found


def left_behind(own: Path, victim: Victim) -> str:
    """What a kill left of what the command leaves: each of it not there, or whole."""
    whole = 0
    for name in victim.leaves:
        path = own / name
        if not path.exists():
            continue
        try:
            if path.is_dir():
                read_release(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                read_evidence(path)
            elif not path.read_bytes().endswith(b"IEND\xaeB`\x82"):  # how every PNG ends
                return f"broken: {name} was cut off"
        except (UserError, ValueError) as error:
            return f"broken: {error}"
        whole += 1
    return f"{whole} of {len(victim.leaves)} whole"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--command", choices=VICTIMS, default="protect", help="of ugejax (default %(default)s)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    victim, out = VICTIMS[arguments.command], arguments.out.absolute()
    before, killed, compiled = out / "before", out / "killed", out / "compiled"
    before.mkdir(parents=True)
    if arguments.command == "evaluate":
        release = ["--seed", "0", "--out", f"{before}/release", "--key", f"{before}/key"]
        finish(start(["protect", "digits", *SUBSET, "--network", "mlp", "--eps", "128/255", *release], compiled))

    seconds, expected = 0.0, {}
    for run in ("compiling", "undisturbed"):
        (out / run).mkdir()
        began = time.perf_counter()
        finish(start(victim.arguments(out / run, before), compiled))
        seconds = time.perf_counter() - began
        found = contents(out / run, victim)
        if expected and found != expected:
            raise SystemExit("two undisturbed runs differ: nothing can be said of killed ones")
        expected = found

    moments, kills, identical, ended = random.Random(arguments.seed), [], True, 0
    killed.mkdir()
    while len(kills) < arguments.kills:
        process, after = start(victim.arguments(killed, before), compiled), moments.uniform(0, seconds)
        try:
            error = process.communicate(timeout=after)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            found = left_behind(killed, victim)
            kills.append({"after_seconds": round(after, 2), "left": found})
            print(f"kill {len(kills)} after {after:5.1f} s of {seconds:.1f} s: {found}", flush=True)
            continue
        if process.returncode:
            raise SystemExit(f"after {len(kills)} kills the command failed: {error}")
        ended += 1
        identical &= contents(killed, victim) == expected
        shutil.rmtree(killed)  # nothing is left to kill: begin from nothing
        killed.mkdir()
    finish(start(victim.arguments(killed, before), compiled))
    ended += 1
    identical &= contents(killed, victim) == expected
    results = {
        "command": arguments.command, "seed": arguments.seed, "seconds_undisturbed": round(seconds, 2), "kills": kills,
        "ended": ended, "identical": identical,
    }  # fmt: skip
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    broken = sum(kill["left"].startswith("broken") for kill in kills)
    print(f"{len(kills)} kills, {broken} of which left something broken; {ended} runs came to their end")
    print(f"their bytes are {'identical' if identical else 'DIFFERENT'}")
    return 0 if identical and not broken else 1


if __name__ == "__main__":
    raise SystemExit(main())
