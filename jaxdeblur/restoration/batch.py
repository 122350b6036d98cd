"""Restores many photos on all devices, in bounded memory.

Each device reads the next photo and writes the previous one while it restores one.
"""

import dataclasses
import errno
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from jaxdeblur.console import StopRequest
from jaxdeblur.errors import InputError
from jaxdeblur.files import FileFingerprint
from jaxdeblur.images.opening import count_megapixels
from jaxdeblur.images.photo import Photo, read_photo
from jaxdeblur.images.resize import resize_bicubic
from jaxdeblur.images.save import replace_pixels, write_photo
from jaxdeblur.restoration.jobs import Job
from jaxdeblur.restoration.memory_budget import MemoryBudget
from jaxdeblur.restoration.overlap import read_ahead, write_behind
from jaxdeblur.restoration.resume_record import Record

# What one device reads, restores and writes at the same time, at 7 to 20 bytes per pixel. Each device has its own
# budget, so none waits for the photos of another.
MEGAPIXELS_PER_DEVICE = 64.0
_FAILURES_OF_ONE_PHOTO = (InputError, OSError, MemoryError, jax.errors.JaxRuntimeError)

RestoreImage = Callable[[np.ndarray, Callable[[float], None]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Processing:
    """What is done to each photo besides restoring it.

    Attributes:
        resize: first resize to a square of this side, bicubically; 0: do not.
        side_by_side: write input | output.
        quality: of JPEGs, 1 to 100.
        max_megapixels: refuse larger photos.
    """

    resize: int
    side_by_side: bool
    quality: int
    max_megapixels: float


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a job: notes for the user, or an error if it failed."""

    job: Job
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Progress:
    """Work done by a network since its last report: a fraction of one photo, and its megapixels."""

    photos: float
    megapixels: float


@dataclasses.dataclass
class _Task:
    """A job in progress.

    Attributes:
        job: the job.
        megapixels: counted against `memory` until the job ends.
        memory: the device's budget.
        fingerprint: of the source, from before it is read.
        photo: the source, then the result.
    """

    job: Job
    megapixels: float
    memory: MemoryBudget
    fingerprint: FileFingerprint | None = None
    photo: Photo | None = None


def restore_photos(
    jobs: Sequence[Job],
    restorers: Sequence[RestoreImage],
    processing: Processing,
    *,
    stop: StopRequest,
    record: Record | None = None,
    megapixels_per_device: float = MEGAPIXELS_PER_DEVICE,
) -> Iterator[Result | Progress]:
    """Restore photos; yield progress, and the result of each job that was started, in order of completion.

    A failure that concerns one photo only is its result. After a stop request, or when the disk is full, no further
    photos are started and those in a network are finished.

    Args:
        jobs: the photos.
        restorers: one per device; see `Restorer.__call__`.
        processing: the same for all photos.
        stop: requests to stop.
        record: gets a line for each result.
        megapixels_per_device: in memory at once; a larger photo is processed alone.
    """
    batch = _Batch(jobs, processing, stop, record)
    with ThreadPoolExecutor(max(len(restorers), 1), "device") as threads:
        devices = [threads.submit(batch.run_device, restore, megapixels_per_device) for restore in restorers]
        for device in devices:
            device.add_done_callback(lambda _: batch.events.put(None))
        running = len(devices)
        try:
            while running:
                event = batch.events.get()
                if event is None:
                    running -= 1
                else:
                    yield event
        finally:
            batch.stop()
    for device in devices:
        device.result()  # raises what is neither the user's nor the system's fault


class _Batch:
    """What the devices share.

    Attributes:
        events: results and progress; None when a device has finished.
    """

    def __init__(self, jobs: Sequence[Job], processing: Processing, stop: StopRequest, record: Record | None):
        self.events: queue.SimpleQueue[Result | Progress | None] = queue.SimpleQueue()
        self._pending, self._processing, self._record = deque(jobs), processing, record
        self._stop_request, self._stopped = stop, threading.Event()

    def stop(self) -> None:
        """Start no further photos."""
        self._stopped.set()

    @property
    def _stopping(self) -> bool:
        return self._stopped.is_set() or bool(self._stop_request)

    def run_device(self, restore: RestoreImage, megapixels: float) -> None:
        """Restore pending photos on one device until none is left."""
        memory = MemoryBudget(megapixels)

        def restore_task(task: _Task) -> None:
            self._restore(task, restore)

        def write_task(task: _Task) -> None:
            self._succeeds(self._write, task)

        try:
            # `memory` is left first, which releases a reader that is waiting for it.
            with (
                read_ahead(self._read_pending(memory)) as tasks,
                write_behind(write_task) as write,
                memory,
            ):
                for task in tasks:
                    if self._stopping:
                        break
                    if self._succeeds(restore_task, task):
                        write(task)
                    del task  # frees its memory while the next one is awaited
        except BaseException:
            self.stop()
            raise

    def _read_pending(self, memory: MemoryBudget) -> Iterator[_Task]:
        """Yield pending photos that can be read, each once there is memory for it."""
        while self._pending and not self._stopping:
            try:
                job = self._pending.popleft()
            except IndexError:  # another device took the last one
                return
            task = _Task(job, count_megapixels(job.source), memory)
            if not memory.acquire(task.megapixels) or self._stopping:
                return
            if self._succeeds(self._read, task):
                yield task
            del task

    def _succeeds(self, step: Callable[[_Task], None], task: _Task) -> bool:
        """Run a step of a task; return False if it failed for a reason that concerns this photo only."""
        try:
            step(task)
        except _FAILURES_OF_ONE_PHOTO as error:
            message = _describe(error, task.job)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self.stop()
                message += "; stopped, since the others would fail as well"
            self._finish(task, Result(task.job, error=message))
            return False
        except BaseException:  # a bug; the reader must not wait for this task's memory
            self.stop()
            task.memory.release(task.megapixels)
            raise
        return True

    def _finish(self, task: _Task, result: Result) -> None:
        task.photo = None
        task.memory.release(task.megapixels)
        self.events.put(result)

    def _read(self, task: _Task) -> None:
        source = task.job.source
        try:
            task.fingerprint = FileFingerprint.of(source)
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror})", code="image-unreadable") from error
        photo = read_photo(source, max_megapixels=self._processing.max_megapixels)
        if side := self._processing.resize:
            alpha = None if photo.alpha is None else resize_bicubic(photo.alpha[..., None], side)[..., 0]
            photo = replace_pixels(photo, resize_bicubic(photo.pixels, side), alpha)
        task.photo = photo

    def _restore(self, task: _Task, restore: RestoreImage) -> None:
        photo = task.photo
        assert photo is not None
        megapixels = photo.pixels.shape[0] * photo.pixels.shape[1] / 1e6

        def report(fraction: float) -> None:
            self.events.put(Progress(fraction, fraction * megapixels))

        pixels, alpha = restore(photo.pixels, report), photo.alpha
        if self._processing.side_by_side:
            pixels = np.concatenate([photo.pixels, pixels], axis=1)
            alpha = None if alpha is None else np.concatenate([alpha, alpha], axis=1)
        task.photo = replace_pixels(photo, pixels, alpha)

    def _write(self, task: _Task) -> None:
        job, photo, source = task.job, task.photo, task.fingerprint
        assert photo is not None
        assert source is not None
        job.target.parent.mkdir(parents=True, exist_ok=True)

        def add_to_record(complete_file: Path) -> None:
            if self._record:
                self._record.add(job, source, FileFingerprint.of(complete_file))

        quality = self._processing.quality
        losses = write_photo(photo, job.target, job.file_format, quality=quality, before_rename=add_to_record)
        self._finish(task, Result(job, (*photo.notes, *losses)))


def _describe(error: BaseException, job: Job) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"{job.target}: cannot be written ({error.strerror or error})"
    if isinstance(error, MemoryError):
        return f"{job.source}: not enough memory"
    return f"{job.source}: the device failed; if it ran out of memory, try a smaller --tile ({error})"
