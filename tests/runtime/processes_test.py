"""Several processes as one run, on loopback: they agree, stop together, and do not wait for a dead one."""

import json
import signal
import subprocess
import time

import pytest

from jaxdeblur.runs.checkpoint_files import SCORE_FILE
from jaxdeblur.runs.checksums import find_corruption
from jaxdeblur.runs.folder import newest_step
from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.runtime.processes import shard_bounds
from tests.helpers.commands import assert_clear_error, run, tiny
from tests.helpers.images import replace_unseen, write_pairs
from tests.helpers.processes import finish, launch, wait_for_lines


def test_shards_are_consecutive(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 3)
    shards = []
    for index in range(3):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        shards.append([shard_bounds(count) for count in (7, 2)])
    assert shards == [[(0, 2), (0, 0)], [(2, 4), (0, 1)], [(4, 7), (1, 2)]]


def test_a_signal_to_one_process_stops_all_at_the_same_step(tiny_gopro, tmp_path):
    """And a single process resumes from there; only the first of the two prints messages."""
    more = ["--config.stages[0].epochs=10", "--config.stages[1].epochs=1"]
    processes = launch(tiny_gopro, tmp_path / "run", *more)
    wait_for_lines(tmp_path / "run", 5, processes)
    processes[1].send_signal(signal.SIGTERM)
    (first, first_output), (second, second_output) = finish(processes)
    assert (first, second) == (0, 0), first_output + second_output
    assert "Run the same command again to resume." in first_output
    assert "CpuDevice(id=0), CpuDevice(" in first_output  # one device of each process
    assert [line for line in second_output.splitlines() if "Gloo" not in line] == [
        "Stopping after this step; press Ctrl-C again to stop immediately."
    ]
    stopped_at = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"]
    resumed = run(*tiny(tiny_gopro, tmp_path / "run", *more))
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resuming after step {stopped_at} of 33." in resumed.stderr
    trained = [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert trained == list(range(1, 34))


def test_processes_that_differ_are_refused(tiny_gopro, tmp_path):
    """Their configs or the contents of their data folders differ."""
    other = tmp_path / "other" / "GOPRO_Large"
    for split, sequence, frames in (("train", "scene_a", 4), ("train", "scene_b", 2), ("train", "scene_v", 3)):
        write_pairs(other, split, sequence, frames, seed=1)
    write_pairs(other, "test", "scene_t", 5)
    runs = [
        launch(tiny_gopro, tmp_path / "a", differ=["--config.seed=5"]),
        launch(tiny_gopro, tmp_path / "b", differ=[f"--config.data.root={other}"]),
        launch(tiny_gopro, tmp_path / "c", differ=["--config.data.root=/nowhere"]),
    ]
    for processes, message in zip(
        runs, ("seed: 0 in process 0, 5 in process 1", "data_sha256.train: ", "/nowhere is not a folder"), strict=True
    ):
        for status, output in finish(processes):
            assert_clear_error(subprocess.CompletedProcess([], status, "", output), "error: ", message)
    assert not (tmp_path / "a").exists()


def test_incomplete_flags_are_refused(tiny_gopro, tmp_path):
    here = tiny(tiny_gopro, tmp_path / "run")
    address = ["--coordinator_address", "127.0.0.1:1"]
    for flags, message in (
        (address, "need all of --coordinator_address, --process_count and --process_id, or --distributed alone"),
        ([*address, "--process_count=2", "--process_id=0", "--distributed"], "--distributed alone"),
        ([*address, "--process_count=2", "--process_id=2"], "--process_id: 2, expected 0 to 1"),
        (["--distributed"], "--distributed: this process cannot join the others"),
    ):
        assert_clear_error(run(*here, *flags), message)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_the_surviving_process_exits_after_the_other_dies(tiny_gopro, tmp_path, victim, number):
    """Killed, or stopped while it keeps its connections open: the other one ends within the timeout."""
    processes = launch(tiny_gopro, tmp_path / "run", "--config.stages[0].epochs=4000")
    wait_for_lines(tmp_path / "run", 16, processes)
    start = time.monotonic()
    processes[victim].send_signal(number)
    survivor = processes[1 - victim]
    output = survivor.communicate(timeout=60)[1]
    waited = time.monotonic() - start
    processes[victim].kill()
    processes[victim].communicate()
    assert survivor.returncode != 0
    assert waited < 30, output  # 10 s without a heartbeat, checked every few seconds
    # Which of the two comes first, the failed collective or JAX's coordination service, is a race.
    assert "lost the connection to another process" in output or "another task died" in output
    newest = newest_step(tmp_path / "run")
    assert newest >= 3  # of the first epoch
    assert find_corruption(tmp_path / "run" / "checkpoints" / str(newest), optional=SCORE_FILE) == ""


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_loses_no_step(tiny_gopro, tmp_path):
    """All processes stop before the step that needs it. With the image fixed, the run resumes exactly."""
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    flags = ["--config.stages[0].epochs=2", "--config.stages[1].epochs=1"]
    assert all(status == 0 for status, _ in finish(launch(tiny_gopro, tmp_path / "whole", *flags)))
    content = path.read_bytes()
    corrupt = bytearray(content)
    corrupt[len(corrupt) // 2] ^= 0xFF
    replace_unseen(path, bytes(corrupt))
    results = finish(launch(tiny_gopro, tmp_path / "run", *flags))
    assert [status for status, _ in results] == [1, 1]
    outputs = "".join(output for _, output in results)
    assert "scene_a/blur/000002.png: cannot be read" in outputs
    assert "Another process failed (see its log). All completed steps were saved." in outputs
    replace_unseen(path, content)
    assert all(status == 0 for status, _ in finish(launch(tiny_gopro, tmp_path / "run", *flags)))
    losses = [
        [line["train/loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "train/loss" in line]
        for name in ("whole", "run")
    ]
    assert losses[1] == losses[0]


@pytest.mark.slow
def test_slurm_provides_address_and_process_id(tiny_gopro, tmp_path):
    """Three tasks for a split of five images: shares of unequal length; --init_from a run in every process."""

    def task(index):
        names = {"JOB_ID": 4321, "STEP_NODELIST": "localhost", "NTASKS": 3, "PROCID": index, "LOCALID": index}
        return {f"SLURM_{name}": str(value) for name, value in {**names, "STEP_NUM_NODES": 1}.items()}

    short = ["--config.stages[0].epochs=1", "--config.stages[1].epochs=1"]
    first = run(*tiny(tiny_gopro, tmp_path / "first", *short))
    assert first.returncode == 0, first.stderr
    batches = ["--config.data.batch_size=3", "--config.evaluation.batch_size=3", "--init_from", tmp_path / "first"]
    arguments = (tiny_gopro, tmp_path / "run", *short, *batches)
    results = finish(launch(*arguments, count=3, environment=task, cluster_flags=["--distributed"]))
    assert [status for status, _ in results] == [0, 0, 0], results
    record = json.loads((tmp_path / "run" / "eval" / "test-16.json").read_text())
    assert [image["sequence"] for image in record["images"]] == ["scene_t"] * 3 + ["scene_u"] * 2
    resumed = run(*tiny(tiny_gopro, tmp_path / "run", *short, *batches, "--mode", "evaluate"), devices=1)
    assert resumed.returncode == 0, resumed.stderr
    alone = json.loads((tmp_path / "run" / "eval" / "test-16.json").read_text())
    assert alone["protocol"]["weights_sha256"] == record["protocol"]["weights_sha256"]
    for ours, theirs in zip(record["images"], alone["images"], strict=True):
        assert ours["psnr"] == pytest.approx(theirs["psnr"], rel=1e-5)
        assert ours["identity"] == theirs["identity"]
