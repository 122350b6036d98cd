"""Tunes glibc's malloc so that freed XLA buffers are reused instead of returned to the system (CPU)."""

import ctypes
import platform
from collections.abc import Callable

import jax

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Size in bytes up to which freed memory is kept; larger blocks are returned at once. The second value is for glibc
# before 2.35, which rejects more than half of HEAP_MAX_SIZE.
_THRESHOLDS = (2**30, 2**25)


def keep_freed_memory() -> None:
    """Make the process reuse freed memory for later arrays. Call it before JAX starts; no effect without glibc.

    Otherwise each step's arrays are mapped afresh, and the first write to a page costs as much as several later ones:
    9% of a training step of TransformNet on 2 cores (docs/performance.md). malloc keeps large blocks for the main
    thread only, so asynchronous dispatch is turned off, which runs CPU programs in the calling thread. Sharing the main
    thread's arena with all threads instead would make them wait for its lock, especially after compilation.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _set_thresholds(mallopt)


def _set_thresholds(mallopt: Callable[[int, int], int]) -> None:
    # Setting one threshold stops glibc from adapting the other, so either both are set or none.
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in _THRESHOLDS):
        mallopt(_M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Return free memory to the system, such as what compilation has freed; no effect without glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
