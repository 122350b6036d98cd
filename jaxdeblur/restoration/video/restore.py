"""Restores a video frame by frame: resumable, with timing, sound and metadata preserved.

Frames are restored in segments, each encoded and stored separately (`encoding.py`, `segments.py`), so a stopped run
loses at most the segment in progress. At the end the segments are joined with the sound without re-encoding, and the
complete file is renamed to the target.
"""

import dataclasses
import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.overlap import read_ahead, write_behind
from jaxdeblur.restoration.video.audio import AudioTrack, AudioWriter, copy_tags, lost_tags, plan_audio
from jaxdeblur.restoration.video.encoding import (
    CONTAINERS,
    Encoding,
    SegmentEncoder,
    configure_encoder,
    decoding_times,
    plan_encoding,
)
from jaxdeblur.restoration.video.segments import SegmentStore, open_progress
from jaxdeblur.restoration.video.source import (
    Video,
    find_video_stream,
    open_container,
    open_video,
    read_frames,
    require_pyav,
)

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
class VideoJob:
    """A video and how it is restored.

    Attributes:
        video: the source.
        target: the result.
        encoding: of the frames.
        audio: how each audio stream is written.
        notes: what the result does not preserve.
    """

    video: Video
    target: Path
    encoding: Encoding
    audio: list[AudioTrack]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames of one segment.

    Attributes:
        times: N, in units of the video's time base.
        images: uint8 RGB (N, H, W, 3).
    """

    times: list[int]
    images: np.ndarray


def plan_restoration(source: Path, target: Path, quality: int) -> VideoJob:
    """Return how a video is restored to a file; nothing is written.

    Args:
        source: the video.
        target: the file to write; its suffix, one of `CONTAINERS`, determines the format.
        quality: the encoder's constant rate factor (CRF); lower is better and larger.

    Raises:
        InputError: see `open_video` and `plan_audio`.
    """
    video, suffix = open_video(source), target.suffix.lower()
    encoding, encoding_notes = plan_encoding(video, suffix, quality)
    audio, audio_notes = plan_audio(video, suffix)
    return VideoJob(video, target, encoding, audio, [*video.notes, *encoding_notes, *audio_notes])


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
            _join_segments(job, store, complete)
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


def _join_segments(job: VideoJob, store: SegmentStore, path: Path) -> None:
    """Write the segments and the source's sound to a file."""
    av = require_pyav()
    muxer = CONTAINERS[path.suffix].muxer
    try:
        with open_container(job.video.path) as source, av.open(str(path), "w", format=muxer) as output:
            output.metadata.update(source.metadata)
            if source.chapters():
                output.set_chapters(source.chapters())
            stream = output.add_stream(job.encoding.encoder, rate=job.encoding.rate)
            configure_encoder(stream.codec_context, job.encoding)
            stream.time_base = job.video.time_base
            copy_tags(find_video_stream(source, job.video.path), stream)
            audio = AudioWriter(job.video.path, source, output, job.audio)
            packets = heapq.merge(
                _video_packets(job.video, store, stream),
                audio.packets(),
                key=lambda packet: packet.dts * packet.time_base,
            )
            for packet in packets:
                output.mux(packet)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(job.target)) from error
        raise InputError(
            f"{job.target}: FFmpeg cannot write it ({error}). Choose another suffix.", code="video-write"
        ) from error
    job.notes.extend(lost_tags(job.video.path, path))
    if audio.num_corrupt:
        job.notes.append(f"{audio.num_corrupt} corrupt packets of sound were dropped")


def _video_packets(video: Video, store: SegmentStore, stream: Any) -> Iterator[Any]:
    """Yield the packets of all segments with their times and durations."""
    av = require_pyav()
    timings = [store.load_timing(number) for number in range(len(store.frame_counts()))]
    starts = np.cumsum([0, *(len(times) for times, _ in timings)])
    times = np.concatenate([times for times, _ in timings])
    indices = np.concatenate([start + indices for start, (_, indices) in zip(starts, timings, strict=False)])
    decoded = decoding_times(times, indices)
    durations = np.diff(times, append=times[-1] + video.frame_duration)
    for number, start in enumerate(starts[:-1]):
        segment = store.load(number)
        for i, data in enumerate(segment.packets, start=start):
            frame = indices[i]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, video.time_base
            packet.pts, packet.dts = int(times[frame]), int(decoded[i])
            packet.duration, packet.is_keyframe = int(durations[frame]), bool(segment.keyframes[i - start])
            yield packet
