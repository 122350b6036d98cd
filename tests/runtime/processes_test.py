"""Several processes as one run, on loopback: they agree, stop together, and none waits for one that is gone."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.runtime.processes import share
from tests.helpers.commands import assert_clear_error, command, run, tiny
from tests.helpers.images import replace_unseen, write_pairs
from tests.helpers.paths import ROOT

# Two processes of one device each; two more devices would only cost time.
ONE_DEVICE = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}


def launch(root, workdir, *more, count=2, environment=lambda index: {}, place=None, differ=()):
    """Start the processes of a run; `differ` are flags of the last one alone."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = []
    for index in range(count):
        where = ["--coordinator_address", f"127.0.0.1:{port}", "--process_count", count, "--process_id", index]
        flags = [*(where if place is None else place), "--heartbeat_timeout", "10"]
        arguments = [*tiny(root, workdir), *flags, *more, *(differ if index == count - 1 else ())]
        environ = {**ONE_DEVICE, **environment(index)}
        processes.append(
            subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environ)
        )
    return processes


def finish(processes, timeout=300):
    """Wait for the processes; return the status and words of each."""
    try:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, words) for process, words in zip(processes, said, strict=True)]


def wait_for_lines(workdir, count, processes):
    deadline = time.monotonic() + 300
    while len(read_metrics(workdir / "metrics.jsonl")) < count:
        assert all(process.poll() is None for process in processes), finish(processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_shares_follow_one_another(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 3)
    shares = []
    for index in range(3):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        shares.append([share(count) for count in (7, 2)])
    assert shares == [[(0, 2), (0, 0)], [(2, 4), (0, 1)], [(4, 7), (1, 2)]]


def test_a_signal_to_one_stops_all_at_the_same_step(tiny_gopro, tmp_path):
    """And one process goes on from there; only the first of the two speaks."""
    more = ["--config.stages[0].epochs=40", "--config.stages[1].epochs=1"]
    processes = launch(tiny_gopro, tmp_path / "run", *more)
    wait_for_lines(tmp_path / "run", 5, processes)
    processes[1].send_signal(signal.SIGTERM)
    (first, said), (second, quiet) = finish(processes)
    assert (first, second) == (0, 0), said + quiet
    assert "Run the same command again to resume." in said
    assert "2 devices" in said or "CpuDevice(id=0), CpuDevice" in said
    assert [line for line in quiet.splitlines() if "Gloo" not in line] == [
        "Stopping after this step; once more to stop at once."
    ]
    stopped_at = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"]
    again = run(*tiny(tiny_gopro, tmp_path / "run", *more))
    assert again.returncode == 0, again.stderr
    assert f"Resuming after step {stopped_at} of 123." in again.stderr
    trained = [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert trained == list(range(1, 124))


def test_processes_that_differ_are_refused(tiny_gopro, tmp_path):
    """By their configs, and by what their data folders hold."""
    other = tmp_path / "other" / "GOPRO_Large"
    for split, sequence, frames in (("train", "scene_a", 4), ("train", "scene_b", 2), ("train", "scene_v", 3)):
        write_pairs(other, split, sequence, frames, seed=1)
    write_pairs(other, "test", "scene_t", 5)
    runs = [
        launch(tiny_gopro, tmp_path / "a", differ=["--config.seed=5"]),
        launch(tiny_gopro, tmp_path / "b", differ=[f"--config.data.root={other}"]),
        launch(tiny_gopro, tmp_path / "c", differ=["--config.data.root=/nowhere"]),
    ]
    for processes, words in zip(
        runs, ("seed: 0 in process 0, 5 in process 1", "data_sha256.train: ", "/nowhere is no folder"), strict=True
    ):
        for status, said in finish(processes):
            assert_clear_error(subprocess.CompletedProcess([], status, "", said), "error: ", words)
    assert not (tmp_path / "a").exists()


def test_half_a_place_among_processes_is_refused(tiny_gopro, tmp_path):
    here = tiny(tiny_gopro, tmp_path / "run")
    address = ["--coordinator_address", "127.0.0.1:1"]
    for flags, words in (
        (address, "want all of --coordinator_address, --process_count and --process_id, or --distributed alone"),
        ([*address, "--process_count=2", "--process_id=0", "--distributed"], "--distributed alone"),
        ([*address, "--process_count=2", "--process_id=2"], "--process_id: 2, expected 0 to 1"),
        (["--distributed"], "--distributed: this process cannot join the others"),
    ):
        assert_clear_error(run(*here, *flags), words)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_none_waits_for_one_that_is_gone(tiny_gopro, tmp_path, victim, number):
    """Killed, or stopped so that it holds its connections and says nothing: the other ends within the timeout."""
    processes = launch(tiny_gopro, tmp_path / "run", "--config.stages[0].epochs=4000")
    wait_for_lines(tmp_path / "run", 16, processes)
    start = time.monotonic()
    processes[victim].send_signal(number)
    survivor = processes[1 - victim]
    said = survivor.communicate(timeout=60)[1]
    waited = time.monotonic() - start
    processes[victim].kill()
    processes[victim].communicate()
    assert survivor.returncode != 0
    assert waited < 30, said  # 10 s without a heartbeat, found by looking every few seconds
    assert "lost touch with another process" in said or "another task died" in said
    saved = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert saved, "the checkpoints before stay"


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_loses_no_step(tiny_gopro, tmp_path):
    """All hear of it before the step that would need it; with the image mended, the run ends as if nothing was."""
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    flags = ["--config.stages[0].epochs=2", "--config.stages[1].epochs=1"]
    assert all(status == 0 for status, _ in finish(launch(tiny_gopro, tmp_path / "whole", *flags)))
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0xFF
    replace_unseen(path, bytes(damaged))
    results = finish(launch(tiny_gopro, tmp_path / "run", *flags))
    assert [status for status, _ in results] == [1, 1]
    words = "".join(said for _, said in results)
    assert "scene_a/blur/000002.png: cannot be read" in words
    assert re.search(r"Another process cannot go on; its own message says why\. All steps are saved", words)
    replace_unseen(path, content)
    assert all(status == 0 for status, _ in finish(launch(tiny_gopro, tmp_path / "run", *flags)))
    losses = [
        [line["train/loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "train/loss" in line]
        for name in ("whole", "run")
    ]
    assert losses[1] == losses[0]


@pytest.mark.slow
def test_slurm_says_where_a_process_belongs(tiny_gopro, tmp_path):
    """Three tasks for a split of five images: shares of unequal length; --init_from a run in every process."""

    def task(index):
        names = {"JOB_ID": 4321, "STEP_NODELIST": "localhost", "NTASKS": 3, "PROCID": index, "LOCALID": index}
        return {f"SLURM_{name}": str(value) for name, value in {**names, "STEP_NUM_NODES": 1}.items()}

    short = ["--config.stages[0].epochs=1", "--config.stages[1].epochs=1"]
    first = run(*tiny(tiny_gopro, tmp_path / "first", *short))
    assert first.returncode == 0, first.stderr
    batches = ["--config.data.batch_size=3", "--config.evaluation.batch_size=3", "--init_from", tmp_path / "first"]
    arguments = (tiny_gopro, tmp_path / "run", *short, *batches)
    results = finish(launch(*arguments, count=3, environment=task, place=["--distributed"]))
    assert [status for status, _ in results] == [0, 0, 0], results
    record = json.loads((tmp_path / "run" / "eval" / "test-16.json").read_text())
    assert [image["sequence"] for image in record["images"]] == ["scene_t"] * 3 + ["scene_u"] * 2
    again = run(*tiny(tiny_gopro, tmp_path / "run", *short, *batches, "--mode", "evaluate"), devices=1)
    assert again.returncode == 0, again.stderr
    alone = json.loads((tmp_path / "run" / "eval" / "test-16.json").read_text())
    assert alone["protocol"]["weights_sha256"] == record["protocol"]["weights_sha256"]
    for ours, theirs in zip(record["images"], alone["images"], strict=True):
        assert ours["psnr"] == pytest.approx(theirs["psnr"], rel=1e-5)
        assert ours["identity"] == theirs["identity"]
