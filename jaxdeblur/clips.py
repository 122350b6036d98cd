"""A video's frames changed one by one, all else kept: timing, sound, colour coding, chapters. Needs PyAV.

Frames are uint8 RGB, (N, H, W, 3), upright. A clip is written beside its place under another name, and takes it when it
is whole.
"""

import dataclasses
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError

# The encoder by the name's suffix, and what makes its constant quality as good as CRF 16 of x264.
ENCODERS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
}
RestoreFrames = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Batch:
    """What is read at once: up to a batch of frames, and the sound that was between them in the file."""

    frames: list[Any]  # av.VideoFrame, as stored
    packets: list[Any]  # av.Packet of sound


@dataclasses.dataclass
class Clip:
    """A video opened for reading.

    Attributes:
        path: its file.
        container: PyAV's.
        num_frames: as the file states, or by its length; 0 if it states neither.
        notes: what a result cannot keep, and after reading what is damaged.
    """

    path: Path
    container: Any
    num_frames: int
    notes: list[str]


def require_pyav() -> Any:
    """Return the module `av`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("Videos need PyAV, which is not installed: pip install '.[video]'.") from error
    return av


def open_clip(path: Path) -> Clip:
    """Open a video.

    Raises:
        InputError: it cannot be read, or holds no moving pictures.
    """
    av = require_pyav()
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error}). Put a good copy in its place.") from error
    if not container.streams.video:
        container.close()
        raise InputError(f"{path}: holds no pictures. Photographs and sound are not taken; give a video.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    count = stream.frames
    if not count and stream.duration and stream.average_rate:
        count = round(float(stream.duration * stream.time_base * stream.average_rate))
    notes = []
    if stream.codec_context.format and max(part.bits for part in stream.codec_context.format.components) > 8:
        notes.append("its colours of more than 8 bits are read and written at 8 bits")
    others = [other.type for other in container.streams if other.type not in ("audio", "video")]
    others += ["second video"] * (len(container.streams.video) - 1)
    if others:
        notes.append(f"left out: {', '.join(sorted(set(others)))}")
    return Clip(path, container, count, notes)


def restore_clip(
    clip: Clip,
    target: Path,
    restore: RestoreFrames,
    *,
    batch_size: int,
    quality: int,
    progress: Callable[[int], None],
    stop: Callable[[], bool],
) -> bool:
    """Write a clip with its frames restored; return False, and leave nothing, if a stop was asked for.

    Reading, restoring and writing go on at the same time; three batches of frames are in memory.

    Args:
        clip: what is read; it is closed.
        target: the file to write; its suffix, one of ENCODERS, decides the format. One that is there is replaced.
        restore: from frames to as many of the same size. The last batch is filled up with copies of its last frame.
        batch_size: frames restored at once.
        quality: the encoder's constant rate factor (CRF); less is better and larger.
        progress: is called with the number of frames that were restored since the last call.
        stop: whether to stop.

    Raises:
        InputError: the video is damaged; nothing is left.
        OSError: `target` cannot be written; nothing is left.
    """
    av = require_pyav()
    unfinished = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.unfinished{target.suffix}")
    try:
        with clip.container, av.open(str(unfinished), "w") as output:
            writer = _Writer(output, clip, ENCODERS[target.suffix.lower()], quality)
            batches = _read_batches(clip, batch_size)
            with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
                behind: Future = writing.submit(lambda: None)
                ahead = reading.submit(next, batches, None)
                while (batch := ahead.result()) and not stop():
                    ahead = reading.submit(next, batches, None)
                    frames = _restore_batch(batch, restore, batch_size)
                    behind.result()
                    behind = writing.submit(writer.write, batch, frames)
                    progress(len(batch.frames))
                behind.result()
            if batch:
                return False
            writer.finish(clip.path)
        os.replace(unfinished, target)
        return True
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.filename in (None, str(unfinished)) and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise InputError(f"{clip.path}: cannot be read to its end ({error}). Put a good copy in its place.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _restore_batch(batch: Batch, restore: RestoreFrames, batch_size: int) -> np.ndarray:
    if not batch.frames:
        return np.zeros((0, 0, 0, 3), np.uint8)
    frames = np.stack([upright(frame) for frame in batch.frames])  # (N, H, W, 3)
    missing = batch_size - len(frames)
    return restore(np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]))[: len(frames)]


def upright(frame: Any) -> np.ndarray:
    """Return a frame of PyAV as uint8 RGB (H, W, 3), turned as its rotation says."""
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _read_batches(clip: Clip, batch_size: int) -> Iterator[Batch]:
    container = clip.container
    streams = [container.streams.video[0], *container.streams.audio]
    frames, packets, count, damaged = [], [], 0, 0
    for packet in container.demux(streams):
        if packet.stream.type == "audio":
            if packet.dts is not None:  # without one it only says that the stream ends
                packets.append(packet)
            continue
        for frame in packet.decode():
            if frames and (frame.width, frame.height) != (frames[0].width, frames[0].height):
                raise InputError(f"{clip.path}: its pictures change their size, which is not supported.")
            frames.append(frame)
            count, damaged = count + 1, damaged + frame.is_corrupt
            if len(frames) == batch_size:
                yield Batch(frames, packets)
                frames, packets = [], []
    if frames or packets:
        yield Batch(frames, packets)
    if damaged:
        clip.notes.append(f"{damaged} of its {count} frames are damaged, and were restored as far as they can be read")
    if count < container.streams.video[0].frames:
        clip.notes.append(f"it ends early: {count} of {container.streams.video[0].frames} frames can be read")


class _Writer:
    """A file being written with the streams of a clip; the first frame decides the picture's size."""

    def __init__(self, output: Any, clip: Clip, encoder: str, quality: int):
        self._output, self._source = output, clip.container.streams.video[0]
        output.metadata.update(clip.container.metadata)
        if clip.container.chapters():
            output.set_chapters(clip.container.chapters())
        self._stream = output.add_stream(encoder, rate=self._source.average_rate or self._source.guessed_rate or 25)
        self._stream.options = {"crf": str(quality)} | ({"b": "0"} if encoder == "libvpx-vp9" else {})
        self._audio = {stream.index: output.add_stream_from_template(stream) for stream in clip.container.streams.audio}
        self._begun = False

    def write(self, batch: Batch, pictures: np.ndarray) -> None:
        """Encode frames that take the time of the batch's, and copy its sound."""
        if batch.frames and not self._begun:
            self._begin(batch.frames[0], pictures.shape[1:3])
        for frame, picture in zip(batch.frames, pictures, strict=True):
            self._output.mux(self._stream.encode(self._to_frame(frame, picture)))
        for packet in batch.packets:
            packet.stream = self._audio[packet.stream.index]
            self._output.mux(packet)

    def finish(self, path: Path) -> None:
        """Write what the encoder still holds.

        Raises:
            InputError: there was no frame.
        """
        if not self._begun:
            raise InputError(f"{path}: not one picture in it can be read. Put a good copy in its place.")
        self._output.mux(self._stream.encode(None))

    def _begin(self, frame: Any, size: tuple[int, int]) -> None:
        context, source = self._stream.codec_context, self._source.codec_context
        height, width = size
        context.height, context.width = height, width
        # Half the resolution of colours, as most videos have it, needs even sides.
        halved = height % 2 == 0 and width % 2 == 0 and not frame.format.name.startswith(("yuv444", "yuvj444", "rgb"))
        context.pix_fmt = "yuv420p" if halved else "yuv444p"
        context.time_base = self._source.time_base
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, name, getattr(source, name))
        self._begun = True

    def _to_frame(self, frame: Any, picture: np.ndarray) -> Any:
        import av

        restored = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        context = self._stream.codec_context
        restored = restored.reformat(format=context.pix_fmt, dst_colorspace=frame.colorspace)
        restored.pts, restored.time_base = frame.pts, frame.time_base
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(restored, name, getattr(frame, name))
        return restored
