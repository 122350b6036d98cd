"""Several processes as one run: they join, agree and end together. Process 0, the primary, writes and speaks for all.

With one process all of this is free: nothing is sent and nothing is waited for.
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
    """An InputError of one process that every process knows of and raises."""


def join(
    coordinator_address: str | None, process_count: int | None, process_id: int | None, *, heartbeat_timeout: int
) -> None:
    """Make this process one of several; call it before anything touches a device.

    Args:
        coordinator_address: `host:port` of process 0; None, with the next two, lets JAX find all three, as on Slurm,
            TPU pods, Open MPI and Kubernetes.
        process_count: how many processes there are.
        process_id: this one's number, from 0.
        heartbeat_timeout: seconds without a sign of life after which a process counts as dead and the others end.

    Raises:
        InputError: the others cannot be reached, or JAX finds no cluster.
    """
    # Its handler would swallow SIGTERM before training starts; the stop is agreed on by `sync_stop_flags` instead.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address, process_count, process_id, heartbeat_timeout_seconds=heartbeat_timeout
        )
    except (ValueError, RuntimeError) as error:
        how = f"--coordinator_address={coordinator_address}" if coordinator_address else "--distributed"
        raise InputError(
            f"{how}: this process cannot join the others ({str(error).splitlines()[0]}). Without Slurm, a TPU pod, "
            "Open MPI or Kubernetes, give --coordinator_address=host:port, --process_count and --process_id."
        ) from error


def is_primary() -> bool:
    """Return whether this is the process that writes logs and reports."""
    return jax.process_index() == 0


def share(count: int) -> tuple[int, int]:
    """Return the first and last + 1 of `count` items that are this process's; shares follow one another."""
    index, processes = jax.process_index(), jax.process_count()
    return count * index // processes, count * (index + 1) // processes


def gather_results(action: Callable[[], T]) -> list[T]:
    """Run an action in every process and return all results, in the order of processes; they are pickled.

    Raises:
        InputError: of any process, in all of them.
    """
    if jax.process_count() == 1:
        return [action()]
    result, problem, code = None, "", ""
    try:
        result = action()
    except SharedError:
        raise  # the others are not waiting for word of it
    except InputError as error:
        problem, code = str(error), error.code
    parts = _gather((result, problem, code))
    problems = {problem: i for i, (_, problem, _) in reversed(list(enumerate(parts))) if problem}
    if problems:
        words = "\n".join(f"process {i}: {problem}" for problem, i in sorted(problems.items(), key=str))
        raise SharedError(words, code=next((code for _, _, code in parts if code), ""))
    return [result for result, _, _ in parts]


def run_on_all(action: Callable[[], T]) -> T:
    """Run an action in every process and return this one's result, which is not sent.

    Raises:
        InputError: of any process, in all of them.
    """
    results: list[T] = []
    gather_results(lambda: results.append(action()))
    return results[0]


def on_primary(action: Callable[[], T]) -> T:
    """Run an action in the primary alone and return its result in every process.

    Raises:
        InputError: the primary's, in all processes.
    """
    return gather_results(action if is_primary() else lambda: None)[0]


def check_agreement(facts: dict[str, Any]) -> None:
    """Refuse processes that were started with different configs or see different data.

    Raises:
        InputError: lists the facts that differ.
    """
    parts = gather_results(lambda: facts)
    problems = [
        f"{key}: {parts[0].get(key, 'absent')!r} in process 0, {part.get(key, 'absent')!r} in process {i}"
        for i, part in enumerate(parts)
        for key in sorted({*parts[0], *part})
        if parts[0].get(key, "absent") != part.get(key, "absent")
    ]
    if problems:
        remedy = "Start every process with the same config, and give it the same data."
        raise SharedError(list_problems("The processes of this run differ:", problems, remedy))


def sync_stop_flags(stop: Any, failed: bool) -> Callable[[], tuple[bool, bool]]:
    """Ask all processes whether any of them wants to stop, and whether any of them failed.

    Call it before a training step is queued and the result after: the answer is then ready when the step before has
    ended, which the host waits for in any case, so that the devices never run dry.

    Args:
        stop: true if this process was asked to stop; with one process it is looked at only when the answer is wanted.
        failed: this process cannot take another step.
    """
    if jax.process_count() == 1:
        return lambda: (bool(stop), failed)
    place, any_of = _ballot()
    own = np.array([[bool(stop), failed]] * jax.local_device_count(), np.int32)
    answer = any_of(jax.make_array_from_process_local_data(place, own))
    return lambda: tuple(map(bool, np.asarray(answer)))


@lru_cache(maxsize=1)
def _ballot() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    mesh = jax.make_mesh((jax.device_count(),), ("votes",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    return NamedSharding(mesh, PartitionSpec("votes")), jax.jit(
        lambda votes: jnp.max(votes, axis=0), out_shardings=whole
    )


def local_copy(tree: Any, sharding: NamedSharding) -> Any:
    """Return arrays that are whole on every device as arrays of this process's devices alone."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.device_put(leaf.addressable_data(0), sharding), tree)


def leave_at_once(error: BaseException, words: str) -> NoReturn:
    """Say what ended this process, one of several, and end it, so that the others notice and end too.

    A normal exit would first wait minutes for the others, who may be waiting for this one.

    Args:
        error: what was raised.
        words: what to tell the user; empty if the error is not the user's.
    """
    if not words and (isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)):
        words = (
            f"error: lost touch with another process ({str(error).splitlines()[0]}). See its messages for the cause. "
            "Start the same command again in every process to go on from the last checkpoint."
        )
    if not words:
        sys.excepthook(type(error), error, error.__traceback__)
        words = f"error: {error!r}"
    index = jax.process_index() if jax.distributed.is_initialized() else None
    print(words if index is None else f"[process {index}] {words}", file=sys.stderr, flush=True)
    if index == 0:
        time.sleep(1.0)  # its end is that of the coordinator, and kills the others before they can say the same
    sys.stdout.flush()
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _gather(value: Any) -> list[Any]:
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([data.size], np.int32))[:, 0]
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    parts = multihost_utils.process_allgather(padded)  # (processes, bytes)
    return [pickle.loads(part[:size].tobytes()) for part, size in zip(parts, sizes, strict=True)]
