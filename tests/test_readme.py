"""What the README shows runs as it stands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_tour_runs():
    tour, _ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", tour], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_readme_parses():
    from ugejax.app.cli.arguments import build_parser

    commands = re.findall(r"^\$ ugejax (.*?)(?:\s+#.*)?$", README.read_text(), re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        build_parser().parse_args(command.split())


def test_a_method_a_counter_measure_and_a_network_are_added_by_one_file_and_one_line_each(tmp_path):
    _, block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    parts = re.split(r"^# (ugejax/\w+)/(\w+)\.py; in registry\.py: (.+)\n", block, flags=re.MULTILINE)[1:]
    assert len(parts) == 3 * 4
    shutil.copytree(README.parent / "ugejax", tmp_path / "ugejax", ignore=shutil.ignore_patterns("__pycache__"))
    for folder, module, line, code in zip(*(parts[start::4] for start in range(4)), strict=True):
        (tmp_path / folder / f"{module}.py").write_text(code)
        with (tmp_path / folder / "registry.py").open("a") as registry:
            registry.write(f"from {folder.replace('/', '.')}.{module} import *\n{line}\n")
    command = "arena digits --n-train 60 --n-test 30 --epochs 1 --methods shade --networks logistic"
    done = subprocess.run(
        [sys.executable, "-m", "ugejax", *command.split(), "--countermeasures", "negative", "--out", "arena"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path), "UGEJAX_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "arena" / "results.json").read_text())["rows"]
    assert [row[name] for name in ("method", "network", "countermeasure")] == ["shade", "logistic", "negative"]
