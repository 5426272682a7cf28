"""Fixtures shared by the whole suite."""

import contextlib
import importlib.metadata
import io
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Most of the suite's time is compilation, and most programs are wanted by several tests: XLA takes those that any
# process of this or an earlier run has compiled from one folder, which all of them find in their environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / "build" / "programs")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# They run for a moment each, so optimising them costs more than it gains; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what
# users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The emitters that later releases of XLA alone have take a quarter longer to compile.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()

SHARED_DATA = ROOT.parent / "shared" / "data"


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


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with toy.npz, a release R, its key key-R, and the release other of another key."""
    # Late, since they import jax, which reads the environment.
    from cli_examples import protect, write_toy

    from ugejax.app.cli import main

    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as told:
        patch.setenv("UGEJAX_CACHE", str(folder / "cache"))
        assert main(protect(folder, "R", "--seed", "0")) == 0
        assert main(protect(folder, "other", "--seed", "1")) == 0
    assert told.getvalue().count("PSNR") == 2
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of `made` to be changed."""
    return Path(shutil.copytree(made, tmp_path / "place"))
