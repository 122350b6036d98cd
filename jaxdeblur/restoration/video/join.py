"""Joins the encoded segments of a video with the source's sound, chapters and tags to one file."""

import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.audio import AudioWriter, copy_tags, lost_tags
from jaxdeblur.restoration.video.encoding import CONTAINERS, configure_encoder, decoding_times
from jaxdeblur.restoration.video.job import VideoJob
from jaxdeblur.restoration.video.segments import SegmentStore
from jaxdeblur.videos.reader import Video, find_video_stream, open_container, require_pyav


def join_segments(job: VideoJob, store: SegmentStore, path: Path) -> None:
    """Write the segments and the source's sound to a file, without re-encoding the frames.

    Notes on what the format cannot store are appended to the job's notes.

    Raises:
        InputError: FFmpeg cannot write the file ("video-write"), or its source's sound cannot be read; see
            `AudioWriter.packets`.
        OSError: the disk is full, or the folder is not writable.
    """
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
