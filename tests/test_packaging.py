"""What a user gets by installing the package: versions that agree, a whole wheel, light imports, a lock that fits."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ugejax

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DECLARED = {
    "requirements.lock": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"],
    "requirements-tools.lock": PYPROJECT["dependency-groups"]["tools"],
}

IMPORT_ALL = """
import importlib, pkgutil, sys
import ugejax
for module in pkgutil.walk_packages(ugejax.__path__, "ugejax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from jax._src import xla_bridge
print("tensorflow" in sys.modules, xla_bridge.backends_are_initialized())
"""


def build(folder: Path) -> Path:
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


def test_version_is_the_same_everywhere(wheel):
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert citation[1] == ugejax.__version__
    assert wheel.name == f"ugejax-{ugejax.__version__}-py3-none-any.whl"


def test_wheel_holds_the_whole_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"ugejax-{ugejax.__version__}.dist-info"
        assert "ugejax = ugejax.app.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    kinds = ("*.py", "*.pyi", "*.html", "*.json", "*.py.txt")
    files = [path for kind in kinds for path in (ROOT / "ugejax").rglob(kind)]
    sources = {str(path.relative_to(ROOT)) for path in files}
    assert {name for name in names if not name.startswith(info)} == sources | {"ugejax/py.typed"}
    assert f"{info}/licenses/LICENSE" in names


def test_the_same_sources_give_the_same_wheel(wheel, tmp_path):
    assert build(tmp_path).read_bytes() == wheel.read_bytes()


def test_the_change_log_has_this_version():
    sections = re.findall(r"^## (\S+)(?: - \d{4}-\d\d-\d\d)?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert ugejax.__version__ in sections
    assert sections[0] in ("Unreleased", ugejax.__version__)


def test_importing_every_module_starts_neither_tensorflow_nor_a_device(tmp_path):
    (tmp_path / "tensorflow.py").write_text("")  # so that an import of TensorFlow would be seen where none is installed
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["False", "False"]


def test_the_package_and_its_command_line_import_nothing_heavy():
    program = "import sys, ugejax, ugejax.app.cli; print(*{'jax', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


@pytest.mark.parametrize("name", DECLARED)
def test_lock_pins_every_package_by_hash_and_names_no_place(name):
    lock = (ROOT / name).read_text()
    entries = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)
    unpinned = [
        entry for entry in entries if re.match(r"\w", entry) and not ("==" in entry and "--hash=sha256:" in entry)
    ]
    assert not unpinned
    assert "://" not in lock
    assert not re.search(r"^--|file:| @ ", lock, re.MULTILINE)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", DECLARED)
def test_lock_satisfies_the_declared_dependencies(name, python):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    lines = (ROOT / name).read_text().splitlines()
    locked = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"\w", line)]
    pins: dict[str, list[str]] = {}
    for pin in locked:
        if pin.marker is None or pin.marker.evaluate(environment):
            pins.setdefault(canonicalize_name(pin.name), []).append(next(iter(pin.specifier)).version)
    for text in DECLARED[name]:
        declared = Requirement(text)
        versions = pins[canonicalize_name(declared.name)]
        assert len(versions) == 1, text
        assert declared.specifier.contains(versions[0]), text
