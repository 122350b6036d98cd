"""A run's log: `metrics.jsonl`, one JSON object a line, and the same in TensorBoard."""

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


class _PytorchHidden(importlib.abc.MetaPathFinder):
    """Makes `import torch` fail in one thread; others may be importing it for themselves."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        """Refuse PyTorch; leave all else to the other finders."""
        del path, target
        if fullname == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("hidden from tensorboardX", name=fullname)


@contextmanager
def _hiding_pytorch() -> Iterator[None]:
    finder = _PytorchHidden()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


# tensorboardX loads PyTorch wherever it is installed, though nothing here needs it: 190 MB, some seconds of a start,
# and on GPUs a second set of CUDA's libraries. It does without where that import fails.
with _hiding_pytorch():
    from tensorboardX import SummaryWriter

NUM_BINS = 30  # as many as TensorBoard draws


@dataclasses.dataclass(frozen=True)
class Histogram:
    """One tensor's: `counts`, (NUM_BINS,), in equal bins between its extremes; values not finite are in none."""

    name: str
    counts: np.ndarray
    low: float
    high: float

    @property
    def edges(self) -> np.ndarray:
        """Of the bins, (NUM_BINS + 1,)."""
        return np.linspace(self.low, self.high, NUM_BINS + 1)


class MetricLog:
    """Writes scalars and images of one run; a resumed run goes on as if it had never stopped.

    Each line holds `step`, `stage`, `epoch`, `wall_s` (seconds of training so far, over all starts) and scalars.
    """

    def __init__(self, folder: Path, *, resume_step: int, validates_again: bool = False):
        """Open the log; lines after `resume_step` are dropped, for these steps will be taken again.

        `validates_again` says that the checkpoint of `resume_step` is yet to be validated: a validation of that step in
        the log was not recorded with the checkpoint before the run was killed.
        """
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= resume_step]
        if validates_again:
            kept = [line for line in kept if line["step"] < resume_step or "validation/psnr" not in line]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._wall_before = kept[-1]["wall_s"] if kept else 0.0
        self._start = time.monotonic()
        self._file = self.path.open("a")
        self.tensorboard_folder = folder / "tensorboard"
        self._tensorboard = SummaryWriter(str(self.tensorboard_folder), purge_step=resume_step + 1)

    def scalars(self, step: int, stage: int, epoch: float, values: dict[str, float]) -> None:
        """Write one line and the same values to TensorBoard."""
        wall = self._wall_before + time.monotonic() - self._start
        line = {"step": step, "stage": stage, "epoch": round(epoch, 4), "wall_s": round(wall, 3), **values}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: list[np.ndarray]) -> None:
        """Show images, uint8 (H, W, 3), in TensorBoard, one below the other."""
        for i, image in enumerate(images):
            self._tensorboard.add_image(f"{name}/{i}", image, step, dataformats="HWC")
        self._tensorboard.flush()

    def histograms(self, step: int, histograms: list[Histogram]) -> None:
        """Show histograms in TensorBoard; their sums are estimated from the middles of bins."""
        for found in histograms:
            edges = found.edges
            middles = (edges[:-1] + edges[1:]) / 2
            self._tensorboard.add_histogram_raw(
                found.name,
                min=found.low,
                max=found.high,
                num=int(found.counts.sum()),
                sum=float(found.counts @ middles),
                sum_squares=float(found.counts @ middles**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=found.counts.tolist(),
                global_step=step,
            )

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._tensorboard.close()


def read_metrics(path: Path) -> list[dict]:
    """Return the lines of a `metrics.jsonl`; a last line that was cut short by a crash is left out.

    Raises:
        InputError: another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # the last piece is empty, or a line that was never finished
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{path}: holds a line that is no JSON ({error}). Remove that line.") from error
