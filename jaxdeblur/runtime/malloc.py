"""What the C library does with memory that is given back to it, which decides what large arrays cost on CPUs."""

import ctypes
import platform
from collections.abc import Callable

import jax

# Of glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Bytes of the largest array whose memory is kept; larger ones go back at once. The second is for glibc before 2.35,
# which refuses more than half of HEAP_MAX_SIZE.
_LARGEST_KEPT = (2**30, 2**25)


def keep_freed_memory() -> None:
    """Have the process keep what it frees, for arrays to come; to be called before JAX starts. Linux with glibc alone.

    Otherwise XLA's arrays of each step come from the system page by page, and filling a page for the first time takes
    as long as writing it several times over: 9% of a training step of TransformNet on 2 cores (docs/performance.md).
    Large arrays are kept for the main thread alone, so CPUs run programs in the thread that calls them. To give all
    threads the main thread's memory instead makes them wait for each other, after compiling most of all.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _keep(mallopt)


def _keep(mallopt: Callable[[int, int], int]) -> None:
    # To set the one threshold keeps glibc from adapting the other, so both are set or neither is.
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT):
        mallopt(_M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give the system back what is free now, such as a compiler's leavings. Linux with glibc alone."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
