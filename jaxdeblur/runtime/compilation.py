"""Compiled programs: where they are kept, what compiling took, how much they compute and how fast devices could."""

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

# What compiled programs may take in the user's cache folder; one of them takes 1 to 30 MB.
MAX_CACHE_BYTES = 4 * 2**30

# Of the orders that XLA can put a program's operations in on CPUs, the one that holds the fewest arrays at a time.
_CPU_ORDER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
# What XLA's newer CPU kernels are used for: sums, and products of matrices if a program asks for it. Their convolutions
# and smaller products often run on one thread (docs/performance.md).
_CPU_KERNELS = {
    False: {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
    True: {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"},
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for arguments of fixed shapes and places.

    Attributes:
        call: the function.
        compile_seconds: what compiling it took, or reading it from the cache.
        flops: floating-point operations of one call on one device, as the compiler counts them; 0 if it does not.
            It counts the body of a loop once, however often it runs.
    """

    call: Callable
    compile_seconds: float
    flops: float


def use_compilation_cache(folder: str) -> Path | None:
    """Keep compiled programs on disk, so that the second start of a run does not compile them again; return where.

    Without a folder to keep them in, which `user_cache_folder` says, None is returned and nothing is kept.

    Args:
        folder: where to; "" for JAX_COMPILATION_CACHE_DIR, or jaxdeblur/programs in the user's cache folder.
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
        # Not by jax_compilation_cache_max_size, which needs another package and makes each process wait for a lock on
        # every read. A folder of the user's choice may belong to other programs too, and is theirs to bound.
        trim_cache(path, MAX_CACHE_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path


def trim_cache(folder: Path, max_bytes: int) -> None:
    """Remove the compiled programs that were used longest ago, until the others take at most `max_bytes`.

    Another process may be using the folder: it then compiles anew what it does not find.
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
    """Compile a function that `jax.jit` returned for these arguments, or for stand-ins of them.

    Args:
        function: what to compile.
        arguments: of the function.
        use_ynnpack_matmul: whether on CPUs XLA's newer kernels make its products of matrices.
        without_loop: a jitted function of the same arguments that does the same work without a loop, by which FLOPs are
            counted; it is traced, not compiled. None: `function` has no loop.
    """
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    compiled = lowered.compile(_cpu_options(use_ynnpack_matmul) if jax.default_backend() == "cpu" else None)
    seconds = time.perf_counter() - start
    return_freed_memory()
    flops = _count_flops(compiled)
    if without_loop is not None and flops:
        # Both counts before compilation are of all devices together, that of `compiled` is of one.
        once = _count_flops(lowered)
        flops *= _count_flops(without_loop.lower(*arguments)) / once if once else 0.0
    return Program(compiled, seconds, flops)


def _count_flops(stage: jax.stages.Lowered | jax.stages.Compiled) -> float:
    analysis = stage.cost_analysis() or {}
    return float(analysis.get("flops", 0.0))


@functools.cache
def _cpu_options(use_ynnpack_matmul: bool) -> dict[str, str]:
    """Return those of the options that this jaxlib has; it says which it lacks."""
    known = {}
    for name, value in (_CPU_ORDER | _CPU_KERNELS[use_ynnpack_matmul]).items():
        try:
            _lower_constant().compile({name: value})
        except jax.errors.JaxRuntimeError:
            say(f"jaxlib {jaxlib.__version__} lacks the option {name}={value}: programs will be slower or larger")
        else:
            known[name] = value
    return known


@functools.cache
def _lower_constant() -> jax.stages.Lowered:
    return jax.jit(lambda: 0).lower()
