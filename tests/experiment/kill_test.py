"""A run that is repeatedly killed with SIGKILL loses nothing: it ends bitwise like an uninterrupted one."""

import random
import subprocess
import time

import pytest

from jaxdeblur.runs.metric_log import read_metrics
from tests.helpers.commands import command, run, tiny
from tests.helpers.paths import ROOT
from tests.helpers.runs import being_written, comparable_record, everything_saved, log_without_clock, newest

KILLS = 21
CHANGE, STEPS = 3 * 20, 3 * (20 + 40)  # steps of the first stage and of both


def kill_at_random(process, workdir, rng, kind):
    """Kill the process soon after its start, during training, or while a checkpoint is being written.

    Returns:
        Whether a checkpoint was being written then; None if the run ended before.
    """
    folder = workdir / "checkpoints"
    if kind == "start":
        time.sleep(rng.uniform(0.0, 4.0))
    else:
        # Wait for one to three new checkpoints: the run has to make progress despite the kills.
        last, left = newest(folder), rng.randint(1, 3)
        while left and process.poll() is None:
            if newest(folder) != last:
                last, left = newest(folder), left - 1
            time.sleep(0.001)
        if kind == "training":
            time.sleep(rng.uniform(0.0, 0.4))
        else:
            while process.poll() is None and not being_written(folder):
                pass
            time.sleep(rng.uniform(0.0, 0.05))
    process.kill()
    status = process.wait()
    return being_written(folder) if status == -9 else None


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_bitwise_like_an_uninterrupted_one(tiny_gopro, tmp_path, monkeypatch):
    """From Adam through the change to SGD, with a checkpoint every three steps."""
    flags = ["--config.stages[0].epochs=20", "--config.stages[1].epochs=40", "--config.log.every_steps=2"]
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # makes starts fast
    reference = run(*tiny(tiny_gopro, tmp_path / "whole", *flags))
    assert reference.returncode == 0, reference.stderr
    workdir, rng, writing, reached = tmp_path / "killed", random.Random(0), [], []
    for kill in range(KILLS):
        with (tmp_path / "stderr.txt").open("w") as stderr:
            process = subprocess.Popen(command(*tiny(tiny_gopro, workdir, *flags)), cwd=ROOT, stderr=stderr)
        kind = ("saving", "training", "start", "saving")[kill % 4]
        writing.append(kill_at_random(process, workdir, rng, kind))
        stderr = (tmp_path / "stderr.txt").read_text()
        assert writing[-1] is not None, f"the run ended after {kill} kills: {stderr}"
        assert "error" not in stderr.lower()
        assert "corrupt" not in stderr
        reached.append(newest(workdir / "checkpoints"))
    print(f"{KILLS} kills, {sum(writing)} while a checkpoint was written; the newest checkpoints then: {reached}")
    assert sum(writing) >= 5
    assert reached[0] < CHANGE < reached[-1]  # killed before and after the change of stage
    last = run(*tiny(tiny_gopro, workdir, *flags))
    assert last.returncode == 0, last.stderr
    assert not (workdir / "damaged_checkpoints").exists()
    assert log_without_clock(workdir) == log_without_clock(tmp_path / "whole")
    trained = [line["step"] for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]
    assert trained == list(range(2, STEPS + 1, 2))
    assert everything_saved(workdir) == everything_saved(tmp_path / "whole")
    for name in ("test-16.json", "validation-16.json"):
        assert comparable_record(workdir / "eval" / name) == comparable_record(tmp_path / "whole" / "eval" / name)
