"""Fixtures shared by the whole suite."""

import contextlib
import gc
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
# Taken apart for several threads, they cost a quarter more to compile, in each of processes that share the cores. So
# do the emitters that later releases of XLA alone have.
flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags.append("--xla_cpu_use_fusion_emitters=false")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    # A fifth of the rest goes into these, which change no value; no program has numbers of such types.
    unwanted = [
        "simplify-while-loops", "while-loop-trip-count-annotator", "while-loop-invariant-code-motion",
        "small-while-loop-hoisting", "reshape-mover", "cpu-parallel-task-assigner",
    ]  # fmt: skip
    types = ["f4e2m1fn", "f8e3m4", "f8e4m3", "f8e4m3b11fnuz", "f8e4m3fnuz", "f8e5m2fnuz", "f8e8m0fnu", "s4", "u4"]
    unwanted += [f"float-normalization-{name}" for name in types]
    flags.append(f"--xla_disable_hlo_passes={','.join(unwanted)}")
os.environ["XLA_FLAGS"] = " ".join(flags).strip()

# Names of layers within a program, which nobody reads here, are a quarter of the time in which a network is traced.
os.environ.setdefault("FLAX_PROFILE", "0")

# Tracing makes objects by the million and hardly any circles of them: by default a twentieth of the time goes into
# looking for those.
gc.set_threshold(20_000, 10, 10)

# Their tests take longest. They start first, so that at the end no process is left alone with one of them.
SLOWEST = [
    f"test_{name}.py"
    for name in ("parallel", "hosts", "experiments_lowering", "experiments_accelerator", "networks_pretrained", "docs")
]

SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files come first; all else stays in order."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)


def pytest_collection_finish() -> None:
    """What was imported stays to the end: it is not looked through for garbage any more."""
    gc.collect()
    gc.freeze()


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
