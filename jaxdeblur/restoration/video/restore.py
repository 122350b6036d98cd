"""Restoring a video frame by frame: resumable, with timing, sound and metadata kept.

Frames are restored in segments, each encoded and saved by itself (`video_encoding.py`, `video_progress.py`), so a run
that is stopped loses at most the segment in progress. At the end the segments are joined with the sound without being
encoded again, and the file gets its name once it is complete.
"""

import dataclasses
import heapq
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
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
    Clip,
    find_video_stream,
    open_clip,
    open_container,
    read_pictures,
    require_pyav,
)

# The frames of a segment: what a stopped run loses at most. Many batch sizes divide it, so that they are filled.
SEGMENT_FRAMES = 48

_SOURCE_FAULTS = (
    "video-unreadable",
    "video-size-changes",
    "video-colour-matrix",
    "video-times",
    "video-audio-changes",
)

RestoreFrames = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClipJob:
    """A video that is to be restored to a file.

    Attributes:
        clip: the source.
        target: the result.
        encoding: of its frames.
        audio: of its sound.
        notes: what the result does not keep.
    """

    clip: Clip
    target: Path
    encoding: Encoding
    audio: list[AudioTrack]
    notes: list[str]


def plan_clip(source: Path, target: Path, quality: int) -> ClipJob:
    """Return how a video is restored to a file; nothing is written.

    Args:
        source: the video.
        target: the file to write; its suffix, one of CONTAINERS, decides the format.
        quality: the encoder's constant rate factor (CRF); less is better and larger.

    Raises:
        InputError: see `open_clip` and `plan_audio`.
    """
    clip, suffix = open_clip(source), target.suffix.lower()
    encoding, encoding_notes = plan_encoding(clip, suffix, quality)
    audio, audio_notes = plan_audio(clip, suffix)
    return ClipJob(clip, target, encoding, audio, [*clip.notes, *encoding_notes, *audio_notes])


def restore_clip(
    job: ClipJob,
    restore: RestoreFrames,
    *,
    settings: Mapping[str, str],
    batch_size: int,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
    overwrite: bool = False,
    before_naming: Callable[[Path], None] = lambda path: None,
) -> bool:
    """Restore a video; return False if a stop was asked for. The same call then resumes it.

    Reading, restoring and encoding overlap; three batches of frames are in memory.

    Args:
        job: what is restored; what turns out to be damaged is added to its notes. A file at its target is replaced.
        restore: from uint8 (N, H, W, 3) to the same. The last batch of a segment is filled up with copies of its last
            frame, so that N is always `batch_size`.
        settings: all that decides what `restore` returns. Segments of an earlier call count if they are the same.
        batch_size: frames restored at once.
        progress: is called with how many frames are done; first with how many earlier calls have done.
        stop: whether to stop.
        overwrite: discard segments of an earlier call with other settings.
        before_naming: is called with the complete file before it takes its place.

    Raises:
        InputError: the video is damaged ("video-unreadable"); FFmpeg cannot write the result ("video-write"); or see
            `open_progress`.
        OSError: the result or its segments cannot be written. What is done is kept.
    """
    encoding = {name: str(value) for name, value in dataclasses.asdict(job.encoding).items()}
    settings = {**settings, **encoding, "segment_frames": str(SEGMENT_FRAMES)}
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with open_progress(job.clip.path, job.target, settings, overwrite=overwrite) as store:
        try:
            if not _restore_segments(job, store, restore, batch_size=batch_size, progress=progress, stop=stop):
                return False
            unfinished = store.folder / f"result{job.target.suffix.lower()}"
            _join_segments(job, store, unfinished)
        except InputError as error:
            if error.code in _SOURCE_FAULTS:  # it can never be completed
                store.remove()
            raise
        before_naming(unfinished)
        os.replace(unfinished, job.target)
        store.remove()
    return True


def _restore_segments(
    job: ClipJob,
    store: SegmentStore,
    restore: RestoreFrames,
    *,
    batch_size: int,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> bool:
    """Restore the segments that are missing; return False if a stop was asked for."""
    counts = store.frame_counts()
    done = sum(counts)
    progress(done)
    writer = _SegmentWriter(store, len(counts), job.encoding)
    batches = _batches(read_pictures(job.clip, job.notes, skip=done), batch_size)
    with closing(batches), ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        behind: Future = writing.submit(lambda: None)
        ahead = reading.submit(next, batches, None)
        while (batch := ahead.result()) and not stop():
            ahead = reading.submit(next, batches, None)
            times, pictures = batch
            missing = batch_size - len(times)
            restored = restore(np.concatenate([pictures, np.repeat(pictures[-1:], missing, axis=0)]))[: len(times)]
            behind.result()
            behind = writing.submit(writer.write, times, restored)
            done += len(times)
            progress(done)
        behind.result()
        if batch:
            return False
    writer.finish()
    return True


def _batches(
    pictures: Iterator[tuple[int, np.ndarray]], batch_size: int
) -> Generator[tuple[list[int], np.ndarray], None, None]:
    """Yield (times, pictures (N, H, W, 3)) of up to `batch_size` frames, none of them across segments."""
    times, batch = [], []
    for count, (time, picture) in enumerate(pictures, start=1):
        times.append(time)
        batch.append(picture)
        if len(batch) == batch_size or count % SEGMENT_FRAMES == 0:
            yield times, np.stack(batch)
            times, batch = [], []
    if batch:
        yield times, np.stack(batch)


class _SegmentWriter:
    """Encodes frames and puts each segment on disk when it is complete."""

    def __init__(self, store: SegmentStore, number: int, encoding: Encoding):
        self._store, self._number, self._encoding = store, number, encoding
        self._encoder = SegmentEncoder(encoding)

    def write(self, times: list[int], pictures: np.ndarray) -> None:
        for time, picture in zip(times, pictures, strict=True):
            self._encoder.add(picture, time)
        if len(self._encoder) == SEGMENT_FRAMES:
            self.finish()

    def finish(self) -> None:
        if len(self._encoder):
            self._store.save(self._number, self._encoder.finish())
            self._number, self._encoder = self._number + 1, SegmentEncoder(self._encoding)


def _join_segments(job: ClipJob, store: SegmentStore, path: Path) -> None:
    """Write the segments and the sound of the source to a file."""
    av = require_pyav()
    muxer = CONTAINERS[path.suffix].muxer
    try:
        with open_container(job.clip.path) as source, av.open(str(path), "w", format=muxer) as output:
            output.metadata.update(source.metadata)
            if source.chapters():
                output.set_chapters(source.chapters())
            video = output.add_stream(job.encoding.encoder, rate=job.encoding.rate)
            configure_encoder(video.codec_context, job.encoding)
            video.time_base = job.clip.time_base
            copy_tags(find_video_stream(source, job.clip.path), video)
            audio = AudioWriter(job.clip.path, source, output, job.audio)
            packets = heapq.merge(
                _video_packets(job.clip, store, video),
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
    job.notes.extend(lost_tags(job.clip.path, path))
    if audio.num_damaged:
        job.notes.append(f"{audio.num_damaged} damaged packets of sound were left out")


def _video_packets(clip: Clip, store: SegmentStore, stream: Any) -> Iterator[Any]:
    """Yield the packets of all segments with the times of their frames."""
    av = require_pyav()
    timings = [store.timing(number) for number in range(len(store.frame_counts()))]
    starts = np.cumsum([0, *(len(times) for times, _ in timings)])
    times = np.concatenate([times for times, _ in timings])
    places = np.concatenate([start + places for start, (_, places) in zip(starts, timings, strict=False)])
    decoded = decoding_times(times, places)
    durations = np.diff(times, append=times[-1] + max(round(1 / (clip.rate * clip.time_base)), 1))
    for number, start in enumerate(starts[:-1]):
        segment = store.load(number)
        for i, data in enumerate(segment.packets, start=start):
            place = places[i]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, clip.time_base
            packet.pts, packet.dts = int(times[place]), int(decoded[i])
            packet.duration, packet.is_keyframe = int(durations[place]), bool(segment.keyframes[i - start])
            yield packet
