"""Restore many photographs on all devices: each device reads ahead and writes behind, in bounded memory."""

import dataclasses
import errno
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import jax
import numpy as np
from PIL import Image

from jaxdeblur.console import StopRequest
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import resize_image
from jaxdeblur.images.photo import Photo, count_megapixels, read_photo
from jaxdeblur.images.save import replace_pixels, write_photo
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.resume_record import Job, Record, Stamp, stamp_of

# Of the photographs that one device reads, restores and writes at the same time, at 7 to 20 bytes a pixel; a larger one
# is in memory alone. Each device has its own budget, so that none waits for the photographs of another.
MEGAPIXELS_PER_DEVICE = 64.0
_RECOVERABLE = (InputError, OSError, MemoryError, jax.errors.JaxRuntimeError)


@dataclasses.dataclass(frozen=True)
class Treatment:
    """What is done with each photograph.

    Attributes:
        resize: side of the square that whole photographs are resized to first, bicubically; 0: none.
        side_by_side: write input | output.
        quality: of JPEGs.
        max_megapixels: larger photographs are refused.
    """

    resize: int
    side_by_side: bool
    quality: int
    max_megapixels: float


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one job: what there is to say; or why it failed."""

    job: Job
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a network has done since the last time: a part of one photograph, and how many megapixels that is."""

    photographs: float
    megapixels: float


class _Budget:
    """The megapixels that one device may hold in memory."""

    def __init__(self, megapixels: float):
        self._total, self._held, self._closed = megapixels, [], False
        self._changed = threading.Condition()

    def take(self, megapixels: float) -> bool:
        """Wait until there is room, or nothing else is held, and take it; return False once closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._held or sum(self._held) + megapixels <= self._total
            )
            if not self._closed:
                self._held.append(megapixels)
            return not self._closed

    def give_back(self, megapixels: float) -> None:
        """Release what `take` took."""
        with self._changed:
            self._held.remove(megapixels)
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclasses.dataclass
class _Task:
    """A job under way."""

    job: Job
    megapixels: float
    stamp: Stamp
    photo: Photo


class Batch:
    """Jobs dealt to devices, each with a thread that reads ahead by one and a thread that writes behind by one."""

    def __init__(
        self,
        jobs: Sequence[Job],
        restorers: Sequence[Restorer],
        treatment: Treatment,
        record: Record | None,
        *,
        megapixels_per_device: float = MEGAPIXELS_PER_DEVICE,
    ):
        """Prepare to restore.

        Args:
            jobs: what to restore.
            restorers: one for each device.
            treatment: what is done with each photograph.
            record: notes results as done; None for none.
            megapixels_per_device: how much one device holds in memory; a larger photograph is held alone.
        """
        self._jobs, self._restorers, self._treatment, self._record = iter(jobs), restorers, treatment, record
        self._megapixels_per_device, self._dealing = megapixels_per_device, threading.Lock()
        self._results: queue.SimpleQueue[Result | Progress | BaseException | None] = queue.SimpleQueue()
        self._stopped = False

    def results(self, request: StopRequest) -> Iterator[Result | Progress]:
        """Restore, and yield progress, and what became of each job that was begun, in the order in which they end.

        After a request to stop no more are begun, and those that the devices are at are finished.
        """
        self._request = request
        threads = [threading.Thread(target=self._run, args=(restorer,)) for restorer in self._restorers]
        for thread in threads:
            thread.start()
        left = len(threads)
        try:
            while left:
                result = self._results.get()
                if isinstance(result, (Result, Progress)):
                    yield result
                elif result is None:
                    left -= 1
                else:
                    raise result
        finally:
            self._stopped = True
            for thread in threads:
                thread.join()

    @property
    def _ends(self) -> bool:
        return self._stopped or bool(self._request)

    def _run(self, restorer: Restorer) -> None:
        budget = _Budget(self._megapixels_per_device)
        try:
            with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
                try:
                    self._restore_all(restorer, budget, reading, writing)
                finally:  # before the executors wait for a reader that waits for memory
                    budget.close()
        except BaseException as error:  # a bug, not the user's mistake: the main thread raises it
            self._results.put(error)
        finally:
            self._results.put(None)

    def _restore_all(self, restorer: Restorer, budget: _Budget, reading: Executor, writing: Executor) -> None:
        behind: Future | None = None
        ahead = reading.submit(self._read_next, budget)
        while (task := ahead.result()) and not self._ends:
            ahead = reading.submit(self._read_next, budget)
            restored = self._guarded(task.job, task.megapixels, budget, self._restore, task, restorer)
            if behind:
                behind.result()
            if restored:
                behind = writing.submit(
                    self._guarded, task.job, task.megapixels, budget, self._write, task, restored, budget
                )
            del task, restored
        if behind:
            behind.result()

    def _guarded(self, job: Job, megapixels: float, budget: _Budget, function: Callable, *arguments: object) -> object:
        """Return what a function does, or None after a failure that concerns this photograph alone."""
        try:
            return function(*arguments)
        except BaseException as error:
            budget.give_back(megapixels)
            if not isinstance(error, _RECOVERABLE):
                self._stopped = True
                raise
            words = _explain(error, job)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._stopped = True  # the others would fail as well
                words += "; stopped, since the others would fail as well"
            self._results.put(Result(job, error=words))
            return None

    def _read_next(self, budget: _Budget) -> _Task | None:
        """Return the next photograph that can be read; None when there are no more."""
        while True:
            with self._dealing:
                job = None if self._ends else next(self._jobs, None)
            if job is None:
                return None
            megapixels = count_megapixels(job.source)
            if not budget.take(megapixels) or self._ends:
                return None
            if task := self._guarded(job, megapixels, budget, self._read, job, megapixels):
                return task

    def _read(self, job: Job, megapixels: float) -> _Task:
        try:
            stamp = stamp_of(job.source)
        except OSError as error:
            raise InputError(f"{job.source}: cannot be read ({error.strerror})") from error
        photo = read_photo(job.source, max_megapixels=self._treatment.max_megapixels)
        if side := self._treatment.resize:
            alpha = None if photo.alpha is None else resize_bicubic(photo.alpha[..., None], side)[..., 0]
            photo = replace_pixels(photo, resize_bicubic(photo.pixels, side), alpha)
        return _Task(job, megapixels, stamp, photo)

    def _restore(self, task: _Task, restorer: Restorer) -> Photo:
        photo = task.photo
        megapixels = photo.pixels.shape[0] * photo.pixels.shape[1] / 1e6

        def progress(share: float) -> None:
            self._results.put(Progress(share, share * megapixels))

        pixels, alpha = restorer(photo.pixels, progress), photo.alpha
        if self._treatment.side_by_side:
            pixels = np.concatenate([photo.pixels, pixels], axis=1)
            alpha = None if alpha is None else np.concatenate([alpha, alpha], axis=1)
        task.photo = dataclasses.replace(photo, pixels=pixels[:0], alpha=None)  # its memory is free
        return replace_pixels(photo, pixels, alpha)

    def _write(self, task: _Task, photo: Photo, budget: _Budget) -> None:
        job = task.job
        job.target.parent.mkdir(parents=True, exist_ok=True)

        def note(whole: object) -> None:
            if self._record:
                self._record.add(job, task.stamp, stamp_of(whole))

        lost = write_photo(photo, job.target, job.file_format, quality=self._treatment.quality, before_rename=note)
        budget.give_back(task.megapixels)
        self._results.put(Result(job, (*photo.notes, *lost)))


def _explain(error: BaseException, job: Job) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"{job.target}: cannot be written ({error.strerror or error})"
    if isinstance(error, MemoryError):
        return f"{job.source}: there is not enough memory for it"
    return f"{job.source}: the device failed, out of memory perhaps, so try a smaller --tile ({error})"


def resize_bicubic(values: np.ndarray, side: int) -> np.ndarray:
    """Return uint8 or uint16 (H, W, C) as (side, side, C), resized by Pillow's bicubic filter."""
    if values.dtype == np.uint8 and values.shape[2] == 3:
        return resize_image(np.ascontiguousarray(values), side, "bicubic")
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        for channel in np.moveaxis(values, -1, 0)
    ]
    limit = np.iinfo(values.dtype).max
    return np.stack([np.rint(np.clip(np.asarray(c), 0, limit)) for c in channels], axis=-1).astype(values.dtype)
