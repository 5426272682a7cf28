"""Kill `ugejax protect` at seeded random moments, let it go on, and compare its bytes with an undisturbed run's.

Command:
    python -m experiments.kills --out runs/kills [--kills 10] [--seed 0]

Time: some minutes on two CPU cores: two protections of the digits by optimisation, and one start for each kill.

Expect: every kill leaves no release or a whole one, and the release at the end is byte for byte the undisturbed one.
results.json holds the moment of every kill and what was there after it.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ugejax.errors import UserError
from ugejax.release import read_release

SETTINGS = ["--authorized", "frozen-backbone", "--epochs", "4", "--perturbation-epochs", "6", "--snapshots", "4"]


def start(folder: Path) -> subprocess.Popen:
    """A protection that leaves its release and key in a folder."""
    command = [sys.executable, "-m", "ugejax", "protect", "digits", *SETTINGS, "--seed", "0"]
    command += ["--out", str(folder / "release"), "--key", str(folder / "key")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    """Wait for a protection that has to succeed."""
    error = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"protect failed: {error}")


def contents(release: Path) -> dict[str, str]:
    """SHA-256 of each of the release's files."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(release.iterdir())}


def left_behind(release: Path) -> str:
    """What a kill left where the release will be."""
    if not release.exists():
        return "no release"
    try:
        read_release(release)
    except UserError as error:
        return f"broken: {error}"
    return "a whole release"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    undisturbed, killed = arguments.out / "undisturbed", arguments.out / "killed"
    undisturbed.mkdir(parents=True)
    killed.mkdir()
    began = time.perf_counter()
    finish(start(undisturbed))
    seconds = time.perf_counter() - began
    expected = contents(undisturbed / "release")

    moments, kills, identical = random.Random(arguments.seed), [], True
    while len(kills) < arguments.kills:
        process, after = start(killed), moments.uniform(0, seconds)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            found = left_behind(killed / "release")
            steps = sorted(killed.glob("key/runs/*/*/[0-9]*"), key=lambda path: path.stat().st_mtime)
            last = "/".join(steps[-1].parts[-2:]) if steps else "none"
            kills.append({"after_seconds": round(after, 2), "left": found, "last_checkpoint": last})
            moment = f"after {after:5.1f} s of {seconds:.1f} s"
            print(f"kill {len(kills)} {moment}: {found}, last checkpoint {last}", flush=True)
        if (killed / "release").exists():  # nothing is left to kill: compare, and begin from nothing
            identical &= contents(killed / "release") == expected
            shutil.rmtree(killed)
            killed.mkdir()
    finish(start(killed))
    identical &= contents(killed / "release") == expected
    results = {"seconds_undisturbed": round(seconds, 2), "kills": kills, "identical": identical}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{len(kills)} kills; bytes at the end {'identical' if identical else 'DIFFERENT'}")
    return 0 if identical and not any(kill["left"].startswith("broken") for kill in kills) else 1


if __name__ == "__main__":
    raise SystemExit(main())
