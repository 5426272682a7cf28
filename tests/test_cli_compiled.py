"""Compiled programs are kept between starts: for the user alone, where he wants, and never in his way."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from ugejax.app.cli import compiled, main

START = """
import jax
from ugejax.app.cli import compiled
compiled.WORTH_KEEPING = 0
compiled.keep_compiled()
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
result = jax.jit(lambda x: (x @ x).sum())(jax.numpy.arange(9.0).reshape(3, 3))
print(float(result), found.count("/jax/compilation_cache/cache_hits"))
"""


def start(**environment: str) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.Popen(
        [sys.executable, "-c", START], env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def hits(process: subprocess.Popen) -> int:
    """How many programs a start found compiled; its result is right and it has nothing to complain of."""
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    result, found = out.split()
    assert float(result) == 486.0
    return int(found)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-cache"))


def test_a_second_start_finds_what_the_first_compiled(tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "cache" / "compiled"
    for process in [start(UGEJAX_CACHE=str(cache)) for _ in range(2)]:  # at the same time
        hits(process)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    written = entries(folder)
    assert written
    assert hits(start(UGEJAX_CACHE=str(cache))) == len(written)
    for entry in written:  # as a process that is killed while it writes leaves them
        entry.write_bytes(entry.read_bytes()[:100])
    assert hits(start(UGEJAX_CACHE=str(cache))) == 0


def test_the_users_own_place_wins(tmp_path):
    hits(start(UGEJAX_CACHE=str(tmp_path / "cache"), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")))
    assert not (tmp_path / "cache").exists()


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "home").write_text("a file")
    assert hits(start(XDG_CACHE_HOME=str(tmp_path / "home"), UGEJAX_CACHE="")) == 0


@pytest.fixture
def kept_in(tmp_path, monkeypatch) -> Callable[[], Path | None]:
    """Where programs are kept from now on, if anywhere; the cache folder is `cache`."""
    chosen = {}
    monkeypatch.setenv("UGEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jax.config, "update", chosen.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None)

    def keep() -> Path | None:
        chosen.clear()
        compiled.keep_compiled()
        return Path(chosen["jax_compilation_cache_dir"]) if chosen else None

    return keep


def test_no_program_is_taken_from_a_folder_that_others_can_write_to(tmp_path, kept_in, monkeypatch, capsys):
    folder, own = tmp_path / "cache" / "compiled", tmp_path / "cache" / f"compiled-{os.getuid()}"
    previous = os.umask(0)
    try:
        assert kept_in() == folder and stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(previous)
    for mode, left in ((0o755, ["some-cache"]), (0o777, [])):  # of an own one the mode is mended
        (folder / "some-cache").write_bytes(b"")
        folder.chmod(mode)
        assert kept_in() == folder and stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [file.name for file in folder.iterdir()] == left
    assert capsys.readouterr().err == ""
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert kept_in() == own and stat.S_IMODE(own.stat().st_mode) == 0o700
    error = capsys.readouterr().err
    assert error.startswith(f"{folder}: not this user's own") and str(own) in error and error.count("\n") == 1
    folder.unlink()
    folder.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 1 + folder.stat().st_uid)  # to whom both are another's
    (tmp_path / "cache" / f"compiled-{os.getuid()}").mkdir()
    assert kept_in() is None
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("arguments", "keeps"), [(["report", "R"], [1]), (["list"], []), (["--help"], [])])
def test_commands_keep_what_they_compile(arguments, keeps, monkeypatch, capsys):
    kept: list[int] = []
    monkeypatch.setattr(compiled, "keep_compiled", lambda: kept.append(1))
    monkeypatch.setattr("ugejax.app.cli.report.run", lambda _: 0)
    try:
        assert main(arguments) == 0
    except SystemExit as left:
        assert left.code == 0
    assert kept == keeps
