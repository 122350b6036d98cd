"""The proof that nothing is lost: killed again and again with SIGKILL, a run ends bitwise as if it never was."""

import json
import random
import subprocess
import time

import jax
import pytest
from end_to_end_test import ROOT, command, run, tiny

from jaxdeblur.checkpoint import Checkpoints
from jaxdeblur.metric_log import read_metrics
from jaxdeblur.weights import fingerprint

KILLS = 24
STEPS = 3 * (70 + 50)


def being_written(folder):
    return [path for path in folder.glob("*") if not path.name.isdigit()] if folder.is_dir() else []


def kill_at_random(process, workdir, rng, kind):
    """Kill at any time from the start on, in the midst of training, or while a checkpoint is being written.

    Returns:
        Whether a checkpoint was being written then; None if the run ended before.
    """
    checkpoints, log = workdir / "checkpoints", workdir / "metrics.jsonl"
    length = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + 300
    if kind != "start":
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= length:
            assert time.monotonic() < deadline
            length = min(length, log.stat().st_size) if log.exists() else 0  # the log was cut to the checkpoint
            time.sleep(0.001)
    time.sleep(rng.uniform(0.0, {"start": 4.0, "training": 1.0, "saving": 0.5}[kind]))
    if kind == "saving":
        while process.poll() is None and not being_written(checkpoints):
            pass
        time.sleep(rng.uniform(0.0, 0.05))
    writing = bool(being_written(checkpoints))
    process.kill()
    return writing if process.wait() == -9 else None


def without_clock(workdir):
    clock = ("wall_s", "train/images_per_s")
    return [
        {key: value for key, value in line.items() if key not in clock}
        for line in read_metrics(workdir / "metrics.jsonl")
    ]


def everything_saved(workdir):
    """Fingerprints of the newest and the best checkpoint, optimizer included, and the place in the run."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep_latest=2, read_only=True)
    items = [
        fingerprint(jax.device_get(checkpoints._manager.restore(step).weights))
        for step in (checkpoints.latest_step, checkpoints.best_step)
    ]
    optimizer = checkpoints._manager.restore(checkpoints.latest_step).optimizer
    leaves = [leaf.tobytes() for leaf in jax.tree.leaves(jax.device_get(optimizer))]
    steps = (checkpoints.latest_step, checkpoints.best_step)
    return steps, items, leaves, checkpoints.progress(steps[0])


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_bitwise_as_if_it_never_was(tiny_gopro, tmp_path):
    """From Adam through the change to SGD, with a checkpoint every three steps."""
    flags = ["--config.stages[0].epochs=70", "--config.stages[1].epochs=50", "--config.log.every_steps=2"]
    reference = run(*tiny(tiny_gopro, tmp_path / "whole", *flags))
    assert reference.returncode == 0, reference.stderr
    workdir, rng = tmp_path / "killed", random.Random(0)
    kills, reached = [], []
    while True:
        process = subprocess.Popen(
            command(*tiny(tiny_gopro, workdir, *flags)), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        if len(kills) >= KILLS:
            said = process.communicate(timeout=300)[1]
            assert process.returncode == 0, said
            break
        writing = kill_at_random(process, workdir, rng, ("saving", "start", "training", "saving")[len(kills) % 4])
        said = process.stderr.read()
        assert "rror" not in said, said
        assert writing is not None, f"the run ended after {len(kills)} kills: {said}"
        kills.append(writing)
        reached.append(len(read_metrics(workdir / "metrics.jsonl")))
    print(f"{len(kills)} kills, {sum(kills)} while a checkpoint was written; lines of the log then: {reached}")
    assert sum(kills) >= 5
    assert "damaged" not in said
    assert not (workdir / "damaged_checkpoints").exists()
    assert without_clock(workdir) == without_clock(tmp_path / "whole")
    assert [line["step"] for line in without_clock(workdir) if "train/loss" in line] == sorted(
        {*range(2, STEPS + 1, 2)}
    )
    assert everything_saved(workdir) == everything_saved(tmp_path / "whole")
    for name in ("test-16.json", "validation-16.json"):
        ours, theirs = (json.loads((tmp_path / run / "eval" / name).read_text()) for run in ("killed", "whole"))
        assert ours == theirs
