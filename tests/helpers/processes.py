"""Training in several processes on the loopback interface."""

import os
import socket
import subprocess
import time

from jaxdeblur.runs.metric_log import read_metrics
from tests.helpers.commands import command, tiny
from tests.helpers.paths import ROOT

# Two processes of one device each; more devices would only cost time.
ONE_DEVICE = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}


def launch(root, workdir, *more, count=2, environment=lambda index: {}, cluster_flags=None, differ=()):
    """Start the processes of a run; `differ` are additional flags of the last one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = []
    for index in range(count):
        where = ["--coordinator_address", f"127.0.0.1:{port}", "--process_count", count, "--process_id", index]
        flags = [*(where if cluster_flags is None else cluster_flags), "--heartbeat_timeout", "10"]
        arguments = [*tiny(root, workdir), *flags, *more, *(differ if index == count - 1 else ())]
        environ = {**ONE_DEVICE, **environment(index)}
        processes.append(
            subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environ)
        )
    return processes


def finish(processes, timeout=300):
    """Wait for the processes; return (status, standard error) of each."""
    try:
        messages = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, messages, strict=True)]


def wait_for_lines(workdir, count, processes):
    """Wait until the log of a run has `count` lines."""
    deadline = time.monotonic() + 300
    while len(read_metrics(workdir / "metrics.jsonl")) < count:
        assert all(process.poll() is None for process in processes), finish(processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)
