"""Restores a video frame by frame: resumable, with timing, sound and metadata preserved.

Frames are restored in segments, each encoded and stored separately (`encoding.py`, `segments.py`), so a stopped run
loses at most the segment in progress. At the end the segments are joined with the sound without re-encoding, and the
complete file is renamed to the target.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.overlap import read_ahead, write_behind
from jaxdeblur.restoration.video.encoding import Encoding, SegmentEncoder
from jaxdeblur.restoration.video.job import VideoJob
from jaxdeblur.restoration.video.join import join_segments
from jaxdeblur.restoration.video.segments import SegmentStore, open_progress
from jaxdeblur.videos.reader import read_frames

# A stopped run loses at most this many frames. Divisible by many batch sizes, which fills the batches.
SEGMENT_FRAMES = 48

# Error codes of sources that can never be restored completely.
_SOURCE_FAULTS = (
    "video-unreadable",
    "video-size-changes",
    "video-colour-matrix",
    "video-times",
    "video-audio-changes",
)

RestoreFrames = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames of one segment.

    Attributes:
        times: N, in units of the video's time base.
        images: uint8 RGB (N, H, W, 3).
    """

    times: list[int]
    images: np.ndarray


def restore_video(
    job: VideoJob,
    restore: RestoreFrames,
    *,
    settings: Mapping[str, str],
    batch_size: int,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
    overwrite: bool = False,
    before_rename: Callable[[Path], None] = lambda path: None,
) -> bool:
    """Restore a video; return False if it was stopped. The same call then resumes it.

    Reading, restoring and encoding overlap; three batches of frames are in memory.

    Args:
        job: the video. Notes on corrupt parts are appended to its notes. A file at its target is overwritten.
        restore: from uint8 (N, H, W, 3) to the same. N is always `batch_size`: the last batch of a segment is padded
            with copies of its last frame.
        settings: everything that determines what `restore` returns. Segments of an earlier call are reused if they are
            equal.
        batch_size: frames per batch.
        progress: called with the number of frames done, the first time with those of earlier calls.
        stop: whether to stop.
        overwrite: discard segments of an earlier call with other settings.
        before_rename: called with the complete file before it is renamed to the target.

    Raises:
        InputError: the video is corrupt ("video-unreadable"), FFmpeg cannot write the result ("video-write"); see also
            `open_progress` and `read_frames`.
        OSError: the result or its segments cannot be written. Finished segments are kept.
    """
    encoding = {name: str(value) for name, value in dataclasses.asdict(job.encoding).items()}
    settings = {**settings, **encoding, "segment_frames": str(SEGMENT_FRAMES)}
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with open_progress(job.video.path, job.target, settings, overwrite=overwrite) as store:
        try:
            if not _restore_segments(job, store, restore, batch_size=batch_size, progress=progress, stop=stop):
                return False
            complete = store.folder / f"result{job.target.suffix.lower()}"
            join_segments(job, store, complete)
        except InputError as error:
            if error.code in _SOURCE_FAULTS:
                store.remove()
            raise
        before_rename(complete)
        os.replace(complete, job.target)
        store.remove()
    return True


def _restore_segments(
    job: VideoJob,
    store: SegmentStore,
    restore: RestoreFrames,
    *,
    batch_size: int,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> bool:
    """Restore the missing segments; return False if stopped."""
    counts = store.frame_counts()
    done = sum(counts)
    progress(done)
    writer = _SegmentWriter(store, len(counts), job.encoding)
    with (
        closing(read_frames(job.video, job.notes, skip=done)) as frames,
        read_ahead(_batches(frames, batch_size)) as batches,
        write_behind(writer.write) as write,
    ):
        for batch in batches:
            if stop():
                return False
            padding = np.repeat(batch.images[-1:], batch_size - len(batch.times), axis=0)
            restored = restore(np.concatenate([batch.images, padding]))[: len(batch.times)]
            write(FrameBatch(batch.times, restored))
            done += len(batch.times)
            progress(done)
    writer.finish()
    return True


def _batches(frames: Iterator[tuple[int, np.ndarray]], batch_size: int) -> Iterator[FrameBatch]:
    """Yield batches of up to `batch_size` frames, none of which spans two segments."""
    times: list[int] = []
    images: list[np.ndarray] = []
    for count, (time, image) in enumerate(frames, start=1):
        times.append(time)
        images.append(image)
        if len(images) == batch_size or count % SEGMENT_FRAMES == 0:
            yield FrameBatch(times, np.stack(images))
            times, images = [], []
    if images:
        yield FrameBatch(times, np.stack(images))


class _SegmentWriter:
    """Encodes frames and stores each complete segment."""

    def __init__(self, store: SegmentStore, number: int, encoding: Encoding):
        self._store, self._number, self._encoding = store, number, encoding
        self._encoder = SegmentEncoder(encoding)

    def write(self, batch: FrameBatch) -> None:
        for time, image in zip(batch.times, batch.images, strict=True):
            self._encoder.add(image, time)
        if len(self._encoder) == SEGMENT_FRAMES:
            self.finish()

    def finish(self) -> None:
        if len(self._encoder):
            self._store.save(self._number, self._encoder.finish())
            self._number, self._encoder = self._number + 1, SegmentEncoder(self._encoding)
