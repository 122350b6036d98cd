"""The log survives stops and crashes without missing or duplicate lines."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.runs.metric_log import NUM_BINS, Histogram, MetricLog, read_metrics
from tests.helpers.tensorboard import read_events


def write(folder, steps, *, resume_step=0):
    log = MetricLog(folder, resume_step=resume_step)
    for step in steps:
        log.scalars(step, 0, step / 2, {"train/loss": step / 10})
    log.close()


def test_fields_of_a_line(tmp_path):
    write(tmp_path, [1, 2])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [{key: line[key] for key in ("step", "stage", "epoch", "train/loss")} for line in lines] == [
        {"step": 1, "stage": 0, "epoch": 0.5, "train/loss": 0.1},
        {"step": 2, "stage": 0, "epoch": 1.0, "train/loss": 0.2},
    ]
    assert 0 <= lines[0]["wall_s"] <= lines[1]["wall_s"]


def test_repeated_steps_are_not_duplicated(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], resume_step=2)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_a_repeated_validation_is_not_duplicated(tmp_path):
    """The run was killed between writing the line and storing the score with the checkpoint."""
    log = MetricLog(tmp_path, resume_step=0)
    for step in (3, 6):
        log.scalars(step, 0, step / 3, {"train/loss": 0.1})
        log.scalars(step, 0, step / 3, {"validation/psnr": 20.0})
    log.close()
    MetricLog(tmp_path, resume_step=6, revalidates=True).close()
    lines = [(line["step"], "validation/psnr" in line) for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert lines == [(3, False), (3, True), (6, False)]


def test_wall_time_continues_after_a_restart(tmp_path):
    write(tmp_path, [1])
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({**read_metrics(path)[0], "wall_s": 500.0}) + "\n")
    write(tmp_path, [2], resume_step=1)
    assert 500 <= read_metrics(path)[1]["wall_s"] < 560


def test_a_truncated_last_line_is_dropped(tmp_path):
    write(tmp_path, [1, 2])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-5])
    assert [line["step"] for line in read_metrics(path)] == [1]
    write(tmp_path, [2], resume_step=1)
    assert [line["step"] for line in read_metrics(path)] == [1, 2]


def test_a_corrupt_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nno JSON\n{"step": 2}\n')
    with pytest.raises(InputError) as error:
        read_metrics(tmp_path / "metrics.jsonl")
    assert error.value.code == "metrics-corrupt"


def test_tensorboard_has_scalars_images_and_histograms(tmp_path):
    log = MetricLog(tmp_path, resume_step=0)
    counts = np.zeros(NUM_BINS, np.int32)
    counts[[0, -1]] = 3, 1
    log.histograms(3, [Histogram("weights/conv1/kernel", counts, low=-1.5, high=1.5)])  # bins of 0.1
    log.scalars(3, 0, 1.5, {"validation/psnr": 25.5})
    log.images(3, "strips", [np.zeros((4, 12, 3), np.uint8)])
    log.close()
    values = {v.tag: v for event in read_events(tmp_path / "tensorboard") for v in event.summary.value}
    assert values["validation/psnr"].simple_value == 25.5
    assert (values["strips/0"].image.height, values["strips/0"].image.width) == (4, 12)
    histogram = values["weights/conv1/kernel"].histo
    assert (histogram.min, histogram.max, histogram.num) == (-1.5, 1.5, 4)
    assert (histogram.sum, histogram.sum_squares) == (pytest.approx(-2 * 1.45), pytest.approx(4 * 1.45**2))
    assert list(histogram.bucket) == counts.tolist()
    assert list(histogram.bucket_limit) == pytest.approx(np.linspace(-1.4, 1.5, NUM_BINS))


def test_pytorch_is_not_imported_if_installed(tmp_path):
    (tmp_path / "torch.py").write_text("Tensor = object")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import jaxdeblur.runs.metric_log; "
        "loaded = 'torch' in sys.modules; import torch; sys.exit(loaded or torch.Tensor is not object)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_thread_may_import_pytorch_at_the_same_time(tmp_path):
    (tmp_path / "torch.py").write_text("Tensor = object")
    code = f"""
import importlib, sys, threading
sys.path.insert(0, {str(tmp_path)!r})
import jaxdeblur.runs.metric_log as log
imported = []
with log._block_torch():
    thread = threading.Thread(target=lambda: imported.append(importlib.import_module("torch").Tensor))
    thread.start()
    thread.join()
    del sys.modules["torch"]
    try:
        import torch
    except ImportError:
        imported.append("blocked")
sys.exit(imported != [object, "blocked"])
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
