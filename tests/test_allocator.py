"""Freed memory is kept for the next call, where the C library can and the user has not said otherwise."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from ugejax.app import allocator, cli

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

# How many pages the system hands out for a block that is as large as one just freed; and whether it was asked not to.
START = """
import ctypes, resource, sys
kept = sys.argv[1] == "keep"
if kept:
    from ugejax.app.allocator import keep_freed_memory
    kept = keep_freed_memory()
libc, size = ctypes.CDLL(None), 2**26
libc.malloc.restype = ctypes.c_void_p
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(block, 1, ctypes.c_size_t(size))
    libc.free(block)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def start(argument: str, **environment: str) -> tuple[int, int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    out = subprocess.run(
        [sys.executable, "-c", START, argument], env=kept | environment, capture_output=True, text=True, check=True
    ).stdout
    kept, pages = map(int, out.split())
    return kept, pages


def test_freed_memory_is_used_again():
    assert start("leave")[1] > 1000
    kept, pages = start("keep")
    assert (kept, pages < 100) == (1, True)


def test_the_users_own_setting_wins():
    kept, pages = start("keep", MALLOC_MMAP_THRESHOLD_="1048576")
    assert (kept, pages > 1000) == (0, True)


@pytest.mark.parametrize("library", [object(), None])
def test_another_c_library_is_left_alone(library, monkeypatch):
    def load(_):
        if library is None:
            raise OSError("no such library")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not allocator.keep_freed_memory()


def test_commands_keep_freed_memory(monkeypatch, capsys):
    kept = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: kept.append(1))
    assert cli.main(["list"]) == 0
    assert kept == [1]
