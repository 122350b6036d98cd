"""Throughput, peak FLOP/s, memory and the profiler's trace."""

import gzip
import json
import time
import types

import jax
import jax.numpy as jnp
import pytest

from jaxdeblur.runtime.compilation import Program
from jaxdeblur.training.profiling import PEAK_FLOPS, SpeedMeter, StepTrace, memory_in_use, peak_flops, speeds


def test_speed_counts_images_since_last_restart(monkeypatch):
    now = iter([100.0, 102.0, 110.0, 111.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    meter = SpeedMeter(8)
    meter.count()
    assert meter.images_per_second == 4
    meter.restart()
    meter.count()
    assert meter.images_per_second == 8


def test_data_wait_is_averaged_per_step(monkeypatch):
    now = iter([0.0, 1.0, 1.5, 2.0, 2.25, 4.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    meter = SpeedMeter(8)
    for _ in range(2):
        with meter.waiting():
            pass
        meter.count()
    assert meter.data_wait == 0.375
    assert meter.steps_per_second == 0.5


def test_peak_flops_are_matched_by_the_longest_device_name():
    def device(kind):
        return types.SimpleNamespace(device_kind=kind)

    assert peak_flops(device("NVIDIA H100 80GB HBM3"), "bfloat16") == 989e12
    assert peak_flops(device("NVIDIA H100 PCIe"), "bfloat16") == 756e12
    assert peak_flops(device("TPU v5 lite"), "float32") == 197e12
    assert peak_flops(jax.devices()[0], "float32") is None
    assert all(peaks.keys() == {"float32", "bfloat16"} for peaks in PEAK_FLOPS.values())


def test_speed_metrics_include_mfu_and_memory_where_known(monkeypatch):
    meter = types.SimpleNamespace(steps_per_second=4.0, data_wait=0.01)
    program = Program(None, compile_seconds=7.0, flops=1e12)
    values = speeds(program, meter, "float32")
    assert values == {"speed/steps_per_s": 4.0, "speed/data_wait_s": 0.01, "speed/compile_s": 7.0}
    device = types.SimpleNamespace(
        device_kind="NVIDIA A100-SXM4-80GB", memory_stats=lambda: {"bytes_in_use": 1, "peak_bytes_in_use": 3 * 10**9}
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    values = speeds(program, meter, "bfloat16")
    assert values["speed/mfu"] == pytest.approx(4e12 / 312e12)
    assert values["speed/memory_gb"] == 3.0


def test_a_device_without_memory_statistics_reports_none():
    assert memory_in_use(jax.devices("cpu")[0]) == {}
    stats = {"bytes_in_use": 5, "peak_bytes_in_use": 7, "num_allocs": 1}
    device = types.SimpleNamespace(memory_stats=lambda: stats)
    assert memory_in_use(device) == {"bytes_in_use": 5, "peak_bytes_in_use": 7}


def test_a_trace_is_written_if_the_run_ends_early(tmp_path):
    """Ten traced steps are requested, but only three are taken, of which the first two are skipped."""
    trace = StepTrace(tmp_path, 10)
    for number in (7, 8):
        with trace.step(number):
            jnp.ones(3).block_until_ready()
    assert not list(tmp_path.iterdir())
    with trace.step(9):
        jnp.ones(3).block_until_ready()
    trace.close()
    (path,) = tmp_path.glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == ["9"]
