"""A run's log: `metrics.jsonl`, one JSON object per line, and the same values in TensorBoard."""

import dataclasses
import importlib.abc
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.files import atomic_write


class _TorchBlocker(importlib.abc.MetaPathFinder):
    """Makes `import torch` fail in the thread that created this finder."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        """Block PyTorch; leave other modules to the other finders."""
        del path, target
        if fullname == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("blocked while importing tensorboardX", name=fullname)


@contextmanager
def _block_torch() -> Iterator[None]:
    finder = _TorchBlocker()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


# tensorboardX imports PyTorch if it is installed, although nothing here needs it: 190 MB of memory, seconds of startup
# and, on GPUs, a second set of CUDA libraries. If the import fails, tensorboardX works without it. A finder that blocks
# this thread alone lets other threads import PyTorch meanwhile; `sys.modules["torch"] = None` would not.
with _block_torch():
    from tensorboardX import SummaryWriter

NUM_BINS = 30  # of a histogram, as many as TensorBoard draws


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Histogram of one tensor's finite values: `counts` (NUM_BINS,) in equal bins from `low` to `high`."""

    name: str
    counts: np.ndarray
    low: float
    high: float

    @property
    def edges(self) -> np.ndarray:
        """Bin edges, (NUM_BINS + 1,)."""
        return np.linspace(self.low, self.high, NUM_BINS + 1)


class MetricLog:
    """Writes the scalars, images and histograms of one run; a resumed run continues the same log.

    Each line has `step`, `stage`, `epoch`, `wall_s` (seconds of training so far, over all starts) and scalars.
    """

    def __init__(self, folder: Path, *, resume_step: int, revalidates: bool = False):
        """Open the log and drop lines after `resume_step`, since these steps will be repeated.

        Args:
            folder: of the run.
            resume_step: the step of the checkpoint that training resumes from; 0 for a new run.
            revalidates: the checkpoint of `resume_step` will be revalidated, because the run was killed before its
                score was stored with it; drops a validation of that step from the log.
        """
        self.path = folder / "metrics.jsonl"
        lines = [line for line in read_metrics(self.path) if line["step"] <= resume_step]
        if revalidates:
            lines = [line for line in lines if line["step"] < resume_step or "validation/psnr" not in line]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._previous_wall_s = lines[-1]["wall_s"] if lines else 0.0
        self._start = time.monotonic()
        self._file = self.path.open("a")
        self.tensorboard_folder = folder / "tensorboard"
        self._tensorboard = SummaryWriter(str(self.tensorboard_folder), purge_step=resume_step + 1)

    def scalars(self, step: int, stage: int, epoch: float, values: dict[str, float]) -> None:
        """Write one line and the same values to TensorBoard."""
        wall = self._previous_wall_s + time.monotonic() - self._start
        line = {"step": step, "stage": stage, "epoch": round(epoch, 4), "wall_s": round(wall, 3), **values}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: list[np.ndarray]) -> None:
        """Write images, uint8 (H, W, 3), to TensorBoard, one below the other."""
        for i, image in enumerate(images):
            self._tensorboard.add_image(f"{name}/{i}", image, step, dataformats="HWC")
        self._tensorboard.flush()

    def histograms(self, step: int, histograms: list[Histogram]) -> None:
        """Write histograms to TensorBoard; their sums are estimated from the bin centres."""
        for histogram in histograms:
            edges = histogram.edges
            centres = (edges[:-1] + edges[1:]) / 2
            self._tensorboard.add_histogram_raw(
                histogram.name,
                min=histogram.low,
                max=histogram.high,
                num=int(histogram.counts.sum()),
                sum=float(histogram.counts @ centres),
                sum_squares=float(histogram.counts @ centres**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=histogram.counts.tolist(),
                global_step=step,
            )

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._tensorboard.close()


def read_metrics(path: Path) -> list[dict]:
    """Return the lines of a `metrics.jsonl`, without an incomplete last line left by a crash; [] if there is no file.

    Raises:
        InputError: another line is not JSON (code "metrics-corrupt").
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # what follows the last newline is empty or incomplete
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        message = f"{path}: a line is not valid JSON ({error}). Remove that line."
        raise InputError(message, code="metrics-corrupt") from error
