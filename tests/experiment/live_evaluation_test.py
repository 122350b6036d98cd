"""Scoring a run while it trains, and refusing a second training of it, do not affect the training."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.helpers.commands import assert_clear_error, command, run, tiny
from tests.helpers.paths import ROOT
from tests.helpers.runs import being_written, comparable_record, everything_saved, log_without_clock, newest

FLAGS = ["--config.stages[0].epochs=5", "--config.stages[1].epochs=5"]


def pause_while_saving(process, folder, *, after):
    """Stop the process (SIGSTOP) while it writes a checkpoint, once there is one newer than `after`."""
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        if newest(folder) > after and being_written(folder):
            process.send_signal(signal.SIGSTOP)
            if being_written(folder):
                return
            process.send_signal(signal.SIGCONT)


def owned_by_training(workdir):
    """Return the content of every file of a run except its scores and reports."""
    names = ("checkpoints", "config.json", "run.json", "metrics.jsonl", "tensorboard", ".lock")
    files = [path for path in workdir.rglob("*") if path.is_file() and path.relative_to(workdir).parts[0] in names]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.slow
def test_evaluation_and_a_second_start_do_not_affect_a_running_training(tiny_gopro, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    reference = run(*tiny(tiny_gopro, tmp_path / "alone", *FLAGS))
    assert reference.returncode == 0, reference.stderr
    workdir = tmp_path / "live"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    arguments = tiny(tiny_gopro, workdir, *FLAGS)
    with (tmp_path / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=stderr, env=environment)
    try:
        pause_while_saving(process, workdir / "checkpoints", after=3)  # so the one of step 3 has its score
        before = owned_by_training(workdir)
        unfinished = [path for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]
        evaluation = run("--mode", "evaluate", "--workdir", workdir)
        assert evaluation.returncode == 0, evaluation.stderr
        assert json.loads((workdir / "eval" / "test-16.json").read_text())["images"]
        second = run(*arguments)
        assert_clear_error(second, f"in use by process {process.pid} on ")
        assert owned_by_training(workdir) == before
        assert all(path.is_dir() for path in unfinished)
    finally:
        process.send_signal(signal.SIGCONT)
        process.wait(300)
    assert process.returncode == 0, (tmp_path / "stderr.txt").read_text()
    assert log_without_clock(workdir) == log_without_clock(tmp_path / "alone")
    assert everything_saved(workdir) == everything_saved(tmp_path / "alone")
    for name in ("test-16.json", "validation-16.json"):
        assert comparable_record(workdir / "eval" / name) == comparable_record(tmp_path / "alone" / "eval" / name)
