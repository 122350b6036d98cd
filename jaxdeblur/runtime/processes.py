"""Several processes as one run: they join, agree and end together. Process 0, the primary, writes files and logs.

With a single process these functions send nothing and wait for nothing.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdeblur.errors import InputError, list_problems

T = TypeVar("T")


class SharedError(InputError):
    """An InputError of one process that has been raised in every process."""


def join(
    coordinator_address: str | None, process_count: int | None, process_id: int | None, *, heartbeat_timeout: int
) -> None:
    """Make this process part of a multi-process run; call it before anything uses a device.

    Args:
        coordinator_address: `host:port` of process 0. If this and the next two are None, JAX detects them, as on Slurm,
            TPU pods, Open MPI and Kubernetes.
        process_count: number of processes.
        process_id: number of this process, from 0.
        heartbeat_timeout: seconds without a heartbeat after which a process is considered dead and the others exit.

    Raises:
        InputError: the other processes cannot be reached, or JAX detects no cluster (code "join-failed").
    """
    # JAX's preemption handler would swallow a SIGTERM before training starts; `sync_stop_flags` handles stops instead.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address, process_count, process_id, heartbeat_timeout_seconds=heartbeat_timeout
        )
    except (ValueError, RuntimeError) as error:
        option = f"--coordinator_address={coordinator_address}" if coordinator_address else "--distributed"
        raise InputError(
            f"{option}: this process cannot join the others ({_first_line(error)}). Without Slurm, a TPU pod, Open MPI "
            "or Kubernetes, give --coordinator_address=host:port, --process_count and --process_id.",
            code="join-failed",
        ) from error


def is_primary() -> bool:
    """Return whether this is the process that writes files and logs."""
    return jax.process_index() == 0


def shard_bounds(count: int) -> tuple[int, int]:
    """Return (start, stop) of this process's shard of `count` items; shards are consecutive."""
    index, processes = jax.process_index(), jax.process_count()
    return count * index // processes, count * (index + 1) // processes


def gather_results(action: Callable[[], T]) -> list[T]:
    """Run an action in every process and return all results, in the order of processes. Results must be picklable.

    Raises:
        SharedError: the action raised an InputError in some process; raised in all of them.
    """
    if jax.process_count() == 1:
        return [action()]
    result, message, code = None, "", ""
    try:
        result = action()
    except SharedError:
        raise  # every process raises it, so none waits in the gather below
    except InputError as error:
        message, code = str(error), error.code
    parts = _all_gather((result, message, code))
    first_process = {message: i for i, (_, message, _) in reversed(list(enumerate(parts))) if message}
    if first_process:
        lines = [f"process {i}: {message}" for message, i in sorted(first_process.items(), key=str)]
        raise SharedError("\n".join(lines), code=next((code for _, _, code in parts if code), ""))
    return [result for result, _, _ in parts]


def run_on_all(action: Callable[[], T]) -> T:
    """Run an action in every process and return this process's result, which is not sent to the others.

    Raises:
        SharedError: the action raised an InputError in some process; raised in all of them.
    """
    results: list[T] = []
    gather_results(lambda: results.append(action()))
    return results[0]


def on_primary(action: Callable[[], T]) -> T:
    """Run an action in the primary only and return its result in every process. The result must be picklable.

    Raises:
        SharedError: the action raised an InputError; raised in all processes.
    """

    def on_this_process() -> T | None:
        return action() if is_primary() else None

    result: Any = gather_results(on_this_process)[0]
    return result


def check_agreement(facts: dict[str, Any]) -> None:
    """Check that all processes have the same facts, such as their config and data.

    Raises:
        SharedError: lists the facts that differ (code "processes-differ").
    """
    parts = gather_results(lambda: facts)
    problems = [
        f"{key}: {parts[0].get(key, 'absent')!r} in process 0, {part.get(key, 'absent')!r} in process {i}"
        for i, part in enumerate(parts)
        for key in sorted({*parts[0], *part})
        if parts[0].get(key, "absent") != part.get(key, "absent")
    ]
    if problems:
        remedy = "Start every process with the same config and the same data."
        message = list_problems("The processes of this run differ:", problems, remedy)
        raise SharedError(message, code="processes-differ")


def sync_stop_flags(stop: Any, failed: bool) -> Callable[[], tuple[bool, bool]]:
    """Start to exchange stop and failure flags; the returned function gives (any process stops, any has failed).

    Call this before a training step is queued and the returned function afterwards: the result is then ready when the
    previous step ends, which the host waits for anyway, and the devices never run dry.

    Args:
        stop: true if this process was asked to stop. A single process reads it only when the result is requested.
        failed: this process cannot take another step.
    """
    if jax.process_count() == 1:
        return lambda: (bool(stop), failed)
    sharding, any_flag = _flag_reduction()
    flags = np.array([[bool(stop), failed]] * jax.local_device_count(), np.int32)  # (local devices, 2)
    reduced = any_flag(jax.make_array_from_process_local_data(sharding, flags))

    def result() -> tuple[bool, bool]:
        any_stop, any_failed = np.asarray(reduced)
        return bool(any_stop), bool(any_failed)

    return result


@lru_cache(maxsize=1)
def _flag_reduction() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """Return the sharding of the flags, (devices, 2), and the function to their maximum over devices, (2,)."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, PartitionSpec())
    return NamedSharding(mesh, PartitionSpec("devices")), jax.jit(
        lambda flags: jnp.max(flags, axis=0), out_shardings=replicated
    )


def to_local_devices(tree: Any, sharding: NamedSharding) -> Any:
    """Return arrays that are replicated over all devices as arrays on this process's devices only."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.device_put(leaf.addressable_data(0), sharding), tree)


def abort(error: BaseException, message: str) -> NoReturn:
    """Print what ended this process, one of several, and exit immediately; the others notice and exit too.

    A normal exit would first wait for the others, for minutes if they are waiting for this process.

    Args:
        error: the exception.
        message: to show to the user; "" if the error is not the user's.
    """
    if not message and _is_lost_connection(error):
        message = (
            f"error: lost the connection to another process ({_first_line(error)}). See its messages for the cause. "
            "Rerun the same command in every process to resume from the last checkpoint."
        )
    if not message:
        sys.excepthook(type(error), error, error.__traceback__)
        message = f"error: {error!r}"
    index = jax.process_index() if jax.distributed.is_initialized() else None
    print(message if index is None else f"[process {index}] {message}", file=sys.stderr, flush=True)
    if index == 0:
        time.sleep(1.0)  # ending the coordinator kills the others before they can print their own message
    sys.stdout.flush()
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _is_lost_connection(error: BaseException) -> bool:
    # A failed CPU collective (Gloo) is a JaxRuntimeError if it is dispatched asynchronously and otherwise a plain
    # ValueError, which can only be recognised by its message: "UNKNOWN: Gloo AllGather failed: ...".
    return isinstance(error, jax.errors.JaxRuntimeError) or (isinstance(error, ValueError) and "Gloo" in str(error))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]


def _all_gather(value: Any) -> list[Any]:
    """Return the picklable values of all processes, in their order."""
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([data.size], np.int32))[:, 0]
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    parts = multihost_utils.process_allgather(padded)  # (processes, bytes)
    return [pickle.loads(part[:size].tobytes()) for part, size in zip(parts, sizes, strict=True)]
