"""The newcomer's path from the clone to the report, and the partner's to a network in PyTorch: every command, timed.

Command:
    python -m experiments.paths --out runs/paths [--repository FOLDER_OR_URL] [--torch torch==2.13.0]

Time: seventeen minutes on two CPU cores shared with others (load 9 to 16), downloads included; six and a half minutes
of one core.

Expect (table in docs/results): the newcomer has his report after one command, `make demo`. In three walks the
partner's network got 0.975 to 0.978 of the clean test digits, the stranger's 0.20 to 0.30; neither is seeded.

The newcomer clones the repository, runs what README.md says and opens the report, in Chromium or Chrome where one is
found; the page is read in any case. The partner has the release, the exported view of the key, and an environment of
his own with PyTorch and without JAX; he trains by what docs/partner.md shows under "With PyTorch alone", taken as it
stands. A stranger trains the same network on the same images without the view. All begin with empty caches, as on a new
machine, and with Python, git and make. results.json holds every command with its seconds, those of a core that it took,
which other work disturbs less, and the machine's load before it; the folder logs what each of them printed.

It tests the commands themselves, so it runs them.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

from experiments.tables import table_head, table_row
from ugejax.app.cli.originals import load_test
from ugejax.app.release import read_release

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What a browser needs where there is no screen, and to stay on this machine.
HEADLESS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--user-data-dir=../browser --window-size=1440,900 --screenshot=../report.png"
)
# What would let a newcomer find things that are there already.
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "UGEJAX_CACHE", "JAX_COMPILATION_CACHE_DIR")
VIEW = 'SecretView("view.safetensors")'
# Follows the partner's own: he needs no test images, who asks what his network is worth does.
SCORE = """
import importlib.util

assert not any(importlib.util.find_spec(name) for name in ("jax", "ugejax"))
with np.load("test.npz") as test, torch.no_grad():
    right = network(torch.from_numpy(test["data"]).permute(0, 3, 1, 2) / 255).argmax(1).numpy() == test["targets"]
print(f"accuracy on clean test images: {right.mean():.3f}")
"""


class Walk:
    """The commands that people give one after the other, each with how long it took."""

    def __init__(self, out: Path):
        """Begin in a folder, which is made."""
        (out / "logs").mkdir(parents=True)
        self.logs = out / "logs"
        self.rows: list[dict] = []
        kept = {name: value for name, value in os.environ.items() if name not in OURS}
        self.environment = kept | {"XDG_CACHE_HOME": str(out / "cache")}

    def run(self, who: str, folder: Path, command: str, more: str = "") -> str:
        """Run a command, print it with its time, and keep what it prints.

        Lines that begin with a word in brackets, as those of `make` do, begin parts with times of their own.

        Args:
            who: gives the command.
            folder: where.
            command: as it is typed; no shell reads it.
            more: further arguments, which nobody has to type.

        Returns:
            What it printed.

        Raises:
            SystemExit: it failed.
        """
        load, began = os.getloadavg()[0], time.perf_counter()
        process = subprocess.Popen(
            [*shlex.split(command), *more.split()], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        text, names, moments = "", [], []
        for line in process.stdout:
            text += line
            if part := re.match(r"\[\w+\] (.*)", line):
                names.append(part[1])
                moments.append(time.perf_counter())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        moments.append(time.perf_counter())
        parts = {name: round(end - start, 1) for name, start, end in zip(names, moments, moments[1:], strict=False)}
        row = {
            "who": who, "command": command, "seconds": round(moments[-1] - began, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1), "load": load, "parts": parts,
        }  # fmt: skip
        self.rows.append(row)
        (self.logs / f"{len(self.rows):02}.txt").write_text(f"$ {command}\n{text}")
        print(f"{row['seconds']:7.1f} s  {who}$ {command}", flush=True)
        if process.returncode:
            raise SystemExit(f"the command failed with {process.returncode}:\n{text}")
        return text


def check_report(page: Path) -> None:
    """Refuse a report without a table, a chart or an image."""
    if missing := {"table", "svg", "img"} - set(re.findall(r"<(\w+)", page.read_text())):
        raise SystemExit(f"{page}: shows nothing of the kind {', '.join(sorted(missing))}")


def partner_script() -> str:
    """What a partner with PyTorch alone copies from his page."""
    section = (ROOT / "docs" / "partner.md").read_text().split("## With PyTorch alone\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def measure(out: Path, repository: str, torch: str) -> dict:
    """Walk both paths; see the module."""
    walk, clone, partner = Walk(out), out / "clone", out / "partner"

    walk.run("newcomer", out, f"git clone --quiet {shlex.quote(repository)} clone")
    walk.run("newcomer", clone, "make demo")
    walk.run("newcomer", clone, ".venv/bin/ugejax report runs/demo")
    if browser := next(filter(shutil.which, BROWSERS), None):
        walk.run("newcomer", clone, f"{browser} runs/demo/report.html", HEADLESS)
    check_report(clone / "runs" / "demo" / "report.html")

    partner.mkdir()
    walk.run("owner", clone, ".venv/bin/ugejax export-key runs/demo/key --out ../partner/view.safetensors")
    shutil.copytree(clone / "runs" / "demo" / "release", partner / "release")
    test = load_test(partner / "release", read_release(partner / "release"), None, None)
    np.savez(partner / "test.npz", data=test.images, targets=test.labels)

    walk.run("partner", partner, "python3 -m venv env")
    walk.run("partner", partner, f"env/bin/python -m pip install --quiet {torch} numpy safetensors")
    script, accuracies = partner_script() + SCORE, {}
    for who, text in (("partner", script), ("stranger", script.replace(VIEW, "torch.nn.Identity()"))):
        (partner / f"{who}.py").write_text(text)
        accuracies[who] = float(walk.run(who, partner, f"env/bin/python {who}.py").split()[-1])
    return {"schema": 1, "cores": os.cpu_count(), "rows": walk.rows, "accuracy": accuracies}


def to_markdown(results: dict) -> str:
    """Every command with its parts, and the sum of each path, as a table."""
    lines, sums = [table_head("who", "command", "seconds", "of a core", "load")], {}
    for row in results["rows"]:
        who = row["who"]
        figures = row["seconds"], row["cpu_seconds"], row["load"]
        lines.append(table_row(who, f"`{row['command']}`", *(f"{figure:.1f}" for figure in figures)))
        lines += [table_row("", name, f"{seconds:.1f}", "", "") for name, seconds in row["parts"].items()]
        sums[who] = [total + figure for total, figure in zip(sums.get(who, (0, 0)), figures[:2], strict=True)]
    lines += [table_row(who, "in all", f"{seconds:.0f}", f"{cpu:.0f}", "") for who, (seconds, cpu) in sums.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--repository", default=str(ROOT), help="what is cloned (default: this one)")
    parser.add_argument("--torch", default="torch==2.13.0", help="what the partner installs (default %(default)s)")
    arguments = parser.parse_args()
    results = measure(arguments.out.absolute(), arguments.repository, arguments.torch)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{to_markdown(results)}\n")
    for who, accuracy in results["accuracy"].items():
        print(f"{who}, in PyTorch: accuracy {accuracy:.3f} on clean test images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
