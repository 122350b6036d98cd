"""Ahead-of-time compilation: CPU options, the persistent compilation cache and FLOP counts."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jaxlib

from jaxdeblur.console import say
from jaxdeblur.files import user_cache_folder
from jaxdeblur.runtime.malloc import return_freed_memory

# Limit of the compilation cache in the user's cache folder; a program takes 1 to 30 MB.
MAX_CACHE_BYTES = 4 * 2**30

# The CPU schedule that minimises peak memory.
_CPU_SCHEDULER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
# XLA's YNNPACK kernels, for reductions and, if `use_ynnpack_matmul`, for matmuls. Its convolutions and small matmuls
# often run on one thread (docs/performance.md).
_YNNPACK = {
    False: {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
    True: {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"},
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for arguments of fixed shapes and shardings.

    Attributes:
        call: the compiled function.
        compile_seconds: time of compiling it or of reading it from the cache.
        flops: floating-point operations of one call on one device, as counted by the compiler; 0 if it does not count.
            The compiler counts the body of a loop once, regardless of its trip count.
    """

    call: Callable
    compile_seconds: float
    flops: float


def use_compilation_cache(folder: str) -> Path | None:
    """Enable JAX's persistent compilation cache and return its folder.

    Args:
        folder: of the cache; "" for JAX_COMPILATION_CACHE_DIR or, if unset, jaxdeblur/programs in the user's cache
            folder.

    Returns:
        None if the user has no cache folder; nothing is cached then, and `user_cache_folder` has logged it.
    """
    if folder:
        path = Path(folder).expanduser()
    elif "JAX_COMPILATION_CACHE_DIR" in os.environ:
        path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    else:
        cache = user_cache_folder()
        if cache is None:
            return None
        path = cache / "programs"
        # jax_compilation_cache_max_size needs another package and takes a lock on every read. A folder of the user's
        # choice is not trimmed, since other programs may use it.
        trim_cache(path, MAX_CACHE_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path


def trim_cache(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used programs until the rest take at most `max_bytes`.

    Another process may be using the folder; it recompiles what it does not find.
    """
    files = []
    for path in folder.glob("*-cache"):
        with suppress(OSError):  # another process may have removed it
            status = path.stat()
            files.append((max(status.st_atime_ns, status.st_mtime_ns), status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes:
            break
        with suppress(OSError):
            path.unlink()
        total -= size


def compile_program(
    function: Any, *arguments: Any, use_ynnpack_matmul: bool, without_loop: Any | None = None
) -> Program:
    """Compile a jitted function for given arguments.

    Args:
        function: as returned by `jax.jit`.
        arguments: arrays or `jax.ShapeDtypeStruct`s.
        use_ynnpack_matmul: use XLA's YNNPACK kernels for matmuls (CPU).
        without_loop: a jitted function of the same arguments that does the same work without a loop, to count FLOPs; it
            is lowered but not compiled. None: `function` has no loop.
    """
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    compiled = lowered.compile(_cpu_options(use_ynnpack_matmul) if jax.default_backend() == "cpu" else None)
    seconds = time.perf_counter() - start
    return_freed_memory()
    flops = _count_flops(compiled)
    if without_loop is not None and flops:
        # Lowered programs are counted for all devices together, the compiled one for a single device.
        loop_flops = _count_flops(lowered)
        flops *= _count_flops(without_loop.lower(*arguments)) / loop_flops if loop_flops else 0.0
    return Program(compiled, seconds, flops)


def _count_flops(stage: jax.stages.Lowered | jax.stages.Compiled) -> float:
    analysis = stage.cost_analysis() or {}
    return float(analysis.get("flops", 0.0))


@functools.cache
def _cpu_options(use_ynnpack_matmul: bool) -> dict[str, str]:
    """Return the options that this jaxlib supports; the missing ones are logged."""
    supported = {}
    for name, value in (_CPU_SCHEDULER | _YNNPACK[use_ynnpack_matmul]).items():
        try:
            _lowered_constant().compile({name: value})
        except jax.errors.JaxRuntimeError:
            say(f"warning: jaxlib {jaxlib.__version__} lacks the option {name}={value}; expect lower performance.")
        else:
            supported[name] = value
    return supported


@functools.cache
def _lowered_constant() -> jax.stages.Lowered:
    """Return a trivial program, to try compiler options with."""
    return jax.jit(lambda: 0).lower()
