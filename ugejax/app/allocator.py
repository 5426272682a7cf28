"""Memory that a compiled program has freed, kept for its next call."""

import ctypes
import os

# Numbers of <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30


def keep_freed_memory() -> bool:
    """Have the process keep up to a GiB of freed memory, in place of giving it back to the system at once.

    A step on a CPU takes its working memory anew in every call. Blocks of over 32 MiB come from the system each time
    then, which hands them out page by page and cleared.
    For the process as a whole and for good, so for programs and not for libraries to decide; `ugejax` does it.

    Returns:
        Whether it took effect: not with another C library than GNU's, nor where the user has set one of glibc's own
        variables MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have no such function, Windows no such library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
