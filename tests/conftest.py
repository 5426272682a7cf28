"""Fixtures shared by the whole suite."""

import os
import tempfile
from pathlib import Path

import pytest

# Most of the suite's time is compilation, and most programs are wanted by several tests: XLA takes those that any
# worker or subprocess has compiled for this run of the suite from one folder, which they find in their environment.
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    programs = tempfile.TemporaryDirectory(prefix="ugejax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# They run for a moment each, so optimising them costs more than it gains; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what
# users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the project; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data folder {SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """What commands keep for their next start is kept out of the user's own cache."""
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))
