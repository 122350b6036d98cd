"""Speed of training: a trace of steps, throughput and the share of the device's peak FLOP/s."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from jaxdeblur.console import say
from jaxdeblur.runtime.compilation import Program

# Peak dense FLOP/s of one device from the vendors' data sheets, by the precision that convolutions run in: JAX
# computes float32 convolutions in TF32 on NVIDIA GPUs since Ampere, and in bfloat16 on TPUs, unless
# jax_default_matmul_precision says otherwise.
PEAK_FLOPS = {
    "NVIDIA A100": {"float32": 156e12, "bfloat16": 312e12},
    "NVIDIA H100 PCIe": {"float32": 378e12, "bfloat16": 756e12},
    "NVIDIA H100": {"float32": 494.5e12, "bfloat16": 989e12},
    "NVIDIA H200": {"float32": 494.5e12, "bfloat16": 989e12},
    "TPU v4": {"float32": 275e12, "bfloat16": 275e12},
    "TPU v5 lite": {"float32": 197e12, "bfloat16": 197e12},
    "TPU v5": {"float32": 459e12, "bfloat16": 459e12},
    "TPU v6 lite": {"float32": 918e12, "bfloat16": 918e12},
}


class SpeedMeter:
    """Measures the throughput of training without validation: `restart` after validation or a line of the log."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Reset the counters."""
        self._start, self._steps, self._waited = time.monotonic(), 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time spent inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def count(self) -> None:
        """Count one step."""
        self._steps += 1

    @property
    def images_per_second(self) -> float:
        """Since the last restart."""
        return self.steps_per_second * self._batch_size

    @property
    def steps_per_second(self) -> float:
        """Since the last restart."""
        return self._steps / max(time.monotonic() - self._start, 1e-9)

    @property
    def data_wait(self) -> float:
        """Seconds per step, since the last restart."""
        return self._waited / max(self._steps, 1)


class StepTrace:
    """Traces some training steps for TensorBoard's profiler (XProf) and Perfetto.

    The first two steps after a start are not representative and are skipped.
    """

    def __init__(self, folder: Path | None, num_steps: int):
        """Trace `num_steps` steps into `folder`, where TensorBoard looks for the run; None: trace nothing."""
        self._folder, self._to_skip = folder, 2
        self._left = num_steps if folder else 0
        self._tracing = False

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Take one training step inside this context."""
        if self._left and self._to_skip:
            self._to_skip -= 1
        elif self._folder and self._left and not self._tracing:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        if self._tracing:
            self._left -= 1
            if not self._left:
                self.close()

    def close(self) -> None:
        """Write a trace in progress."""
        if self._tracing and self._folder:
            self._tracing = False
            jax.profiler.stop_trace()
            say(f"A trace of training steps is in {self._folder / 'plugins' / 'profile'}.")


def peak_flops(device: jax.Device, dtype: str) -> float | None:
    """Return the peak FLOP/s of a device at a precision; None if unknown."""
    # The longest matching name: "NVIDIA H100 PCIe" before "NVIDIA H100".
    names = [name for name in PEAK_FLOPS if device.device_kind.startswith(name)]
    return PEAK_FLOPS[max(names, key=len)][dtype] if names else None


def speeds(program: Program, meter: SpeedMeter, dtype: str) -> dict[str, float]:
    """Return the speed metrics of the training log.

    `speed/steps_per_s`; `speed/data_wait_s` (per step) and `speed/compile_s` in seconds; where known, `speed/mfu`, the
    share of the device's peak FLOP/s, and `speed/memory_gb`, its peak memory so far in 10^9 bytes.
    """
    device = jax.local_devices()[0]
    values = {
        "steps_per_s": meter.steps_per_second,
        "data_wait_s": meter.data_wait,
        "compile_s": program.compile_seconds,
    }
    if program.flops and (peak := peak_flops(device, dtype)):
        values["mfu"] = program.flops * meter.steps_per_second / peak
    if memory := memory_in_use(device):
        values["memory_gb"] = memory["peak_bytes_in_use"] / 1e9
    return {f"speed/{name}": value for name, value in values.items()}


def memory_in_use(device: jax.Device) -> dict[str, int]:
    """Return a device's current and peak memory in bytes; empty if it does not report them, as CPUs."""
    stats = device.memory_stats() or {}
    return {key: stats[key] for key in ("bytes_in_use", "peak_bytes_in_use") if key in stats}
