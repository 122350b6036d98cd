"""Where the C library takes memory for arrays from, which decides what large ones cost on CPUs. Linux with glibc alone.

Filling pages of 4 KiB for the first time takes as long as writing them several times over, a fifth of a training step
of TransformNet on 2 cores. Memory that is freed and kept for the next step would spare that, but other memory settles
in its gaps: after 12 steps the process had grown to twice its size. So large arrays get memory of their own, in huge
pages of 2 MiB, which cost next to nothing to fill, and give it back (docs/performance.md).
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

# Of glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 2**25  # bytes; arrays from here on get memory of their own

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLES = "GLIBC_TUNABLES"


def start_with_huge_pages() -> None:
    """Start this program anew with huge pages for its memory; a program calls it first of all, before any work.

    glibc reads that setting, one of its tunables, only when a process starts. Nothing is done where it would change
    nothing: with another C library, where the system gives huge pages to all or to none, and where GLIBC_TUNABLES is
    set, by the user or by this very function.
    """
    on_request = _HUGE_PAGES.exists() and "[madvise]" in _HUGE_PAGES.read_text()
    if _TUNABLES not in os.environ and on_request and platform.libc_ver()[0] == "glibc":
        os.environ[_TUNABLES] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_up_memory() -> None:
    """Have large arrays get memory of their own, and keep what smaller ones free; to be called before JAX starts.

    One arena, since other threads' arenas would each keep their own.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give the system back what is free now, such as a compiler's leavings."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
