"""The README's API tour runs as it stands, on four forced CPU devices."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_tour_runs():
    (tour,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", tour], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_readme_parses():
    from ugejax.cli.arguments import build_parser

    commands = re.findall(r"^\$ ugejax (.*?)(?:\s+#.*)?$", README.read_text(), re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        build_parser().parse_args(command.split())
