"""What the C library does with memory that is given back to it, which decides what large arrays cost on CPUs."""

import ctypes
import platform

# Of glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 2**30  # bytes of an array; larger ones go back at once


def keep_freed_memory() -> None:
    """Have the process keep what it frees, for arrays to come; to be called before JAX starts. Linux with glibc alone.

    Otherwise XLA's arrays of each step come from the system page by page, and filling a page for the first time takes
    as long as writing it several times over: 9% of a training step of TransformNet on 2 cores (docs/performance.md).
    One arena, since other threads' arenas do not hold large arrays.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    mallopt(_M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give the system back what is free now, such as a compiler's leavings. Linux with glibc alone."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
