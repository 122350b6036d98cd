"""Reading videos: properties, and frames as upright, progressive RGB. Needs PyAV.

RGB frames are uint8, (H, W, 3).
"""

import dataclasses
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.videos.colours import MATRICES, RGB, Colours, colours_of, to_rgb
from jaxdeblur.videos.deinterlacing import deinterlace
from jaxdeblur.videos.orientation import Orientation, orientation_of

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mts", ".webm")  # compared in lower case
MAX_STEP_BACK = 0.5  # seconds between two frames; smaller steps back are a recorder's inaccuracy


@dataclasses.dataclass(frozen=True)
class Video:
    """A video that can be restored.

    Attributes:
        path: of the file.
        num_frames: as stated by the file, or estimated from its duration; 0 if unknown.
        size: height and width of the upright frames, in pixels.
        orientation: from stored to upright frames.
        aspect: width of an upright pixel over its height.
        rate: average frames per second.
        time_base: unit of the frames' times, in seconds.
        colours: colour encoding of the first frame.
        notes: what a result cannot preserve.
    """

    path: Path
    num_frames: int
    size: tuple[int, int]
    orientation: Orientation
    aspect: Fraction
    rate: Fraction
    time_base: Fraction
    colours: Colours
    notes: list[str]

    @property
    def frame_duration(self) -> int:
        """Average duration of a frame in units of `time_base`, at least 1."""
        return max(round(1 / (self.rate * self.time_base)), 1)


def require_pyav() -> Any:
    """Return the module `av`.

    Raises:
        InputError: it is not installed ("missing-extra").
    """
    return require("av", "Reading videos")


def open_container(path: Path) -> Any:
    """Return PyAV's container of a video file, open for reading.

    Raises:
        InputError: the file cannot be read as a video ("video-unreadable").
    """
    av = require_pyav()
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise unreadable(path, error) from error


def open_video(path: Path) -> Video:
    """Return the properties of a video file, from its header and its first frame.

    Raises:
        InputError: the file cannot be read ("video-unreadable"), contains no video ("video-no-pictures"), or has an
            unsupported colour encoding or orientation ("video-colour-matrix", "video-orientation").
    """
    with open_container(path) as container:
        stream = find_video_stream(container, path)
        frame = next(_decoded_frames(container, stream, path), None)
        if frame is None:
            raise InputError(
                f"{path}: no frame can be decoded. Replace it with an intact copy.", code="video-unreadable"
            )
        colours, orientation = colours_of(frame), orientation_of(frame, path)
        aspect, size = stream.sample_aspect_ratio or Fraction(1), (frame.height, frame.width)
        if orientation.transpose:
            aspect, size = 1 / aspect, size[::-1]
        count = stream.frames
        if not count and stream.duration and stream.average_rate:
            count = round(float(stream.duration * stream.time_base * stream.average_rate))
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        notes = _losses(container, stream, frame)
        return Video(path, count, size, orientation, aspect, rate, stream.time_base, colours, notes)


def read_frames(video: Video, notes: list[str], skip: int = 0) -> Generator[tuple[int, np.ndarray], None, None]:
    """Yield (time in units of `video.time_base`, upright progressive RGB frame). Times increase strictly.

    Args:
        video: what is read.
        notes: at the end, notes on corrupt, interlaced and missing frames are appended.
        skip: number of frames not to yield at the start; they are decoded all the same, so the others do not depend on
            it.

    Raises:
        InputError: the file cannot be read to its end ("video-unreadable"), or in the middle its frames change size
            ("video-size-changes") or to an unsupported colour encoding ("video-colour-matrix"), or times jump back
            ("video-times").
    """
    with open_container(video.path) as container:
        stream = find_video_stream(container, video.path)
        stated, counts = stream.frames, {"all": 0, "corrupt": 0, "interlaced": 0}
        frames = deinterlace(_counted(_decoded_frames(container, stream, video.path), counts))
        time = None
        for number, frame in enumerate(frames):
            time = _next_time(frame, video, time)
            if number >= skip:
                yield time, np.ascontiguousarray(video.orientation.apply(to_rgb(frame)))
    count = counts["all"]
    if counts["interlaced"]:
        notes.append(f"{counts['interlaced']} of its {count} frames are interlaced, and were deinterlaced")
    if counts["corrupt"]:
        notes.append(f"{counts['corrupt']} of its {count} frames are corrupt, and were used as far as decoded")
    if count < stated:
        notes.append(f"it ends early: {count} of {stated} frames can be read")


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the error to raise for a file that FFmpeg cannot read."""
    return InputError(
        f"{path}: cannot be read as a video ({error}). Replace it with an intact copy.", code="video-unreadable"
    )


def find_video_stream(container: Any, path: Path) -> Any:
    """Return the first video stream that is not cover art.

    Raises:
        InputError: there is none ("video-no-pictures"), or no decoder for it ("video-unreadable").
    """
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: has no video stream; expected a video file.", code="video-no-pictures")
    if streams[0].codec_context is None:
        raise InputError(
            f"{path}: its video codec cannot be decoded. Convert it to H.264 first.", code="video-unreadable"
        )
    streams[0].thread_type = "AUTO"
    return streams[0]


def _decoded_frames(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    av = require_pyav()
    size = None
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                size = size or (frame.width, frame.height)
                _check_frame(frame, size, path)
                yield frame
    except av.FFmpegError as error:
        raise unreadable(path, error) from error


def _check_frame(frame: Any, size: tuple[int, int], path: Path) -> None:
    if (frame.width, frame.height) != size:
        raise InputError(
            f"{path}: its frames change from {size[0]}x{size[1]} to {frame.width}x{frame.height} pixels, which is not "
            "supported. Split it there first.",
            code="video-size-changes",
        )
    matrix = colours_of(frame).matrix
    if matrix not in MATRICES and matrix != RGB:
        raise InputError(
            f"{path}: its colours are encoded with FFmpeg's colour space {matrix}, which is not supported. Convert it "
            "to BT.709 first.",
            code="video-colour-matrix",
        )


def _counted(frames: Iterator[Any], counts: dict[str, int]) -> Iterator[Any]:
    for frame in frames:
        counts["all"] += 1
        counts["corrupt"] += frame.is_corrupt
        counts["interlaced"] += frame.interlaced_frame
        yield frame


def _next_time(frame: Any, video: Video, previous: int | None) -> int:
    """Return a frame's time in units of `video.time_base`; without a usable one, it follows the previous frame."""
    if frame.pts is None:
        return 0 if previous is None else previous + video.frame_duration
    time = round(frame.pts * frame.time_base / video.time_base)
    if previous is None:
        return time
    if (previous - time) * video.time_base > MAX_STEP_BACK:
        raise InputError(
            f"{video.path}: its times jump back from {float(previous * video.time_base):.2f} to "
            f"{float(time * video.time_base):.2f} s, as if two recordings had been concatenated. Repair it first: "
            "ffmpeg -i <file> -c copy repaired.mkv",
            code="video-times",
        )
    return max(time, previous + 1)


def _losses(container: Any, stream: Any, frame: Any) -> list[str]:
    """Return notes on what the result cannot preserve."""
    notes = []
    if max(component.bits for component in frame.format.components) > 8:
        notes.append("its colours of more than 8 bits are read and written at 8 bits")
    if any(component.is_alpha for component in frame.format.components):
        notes.append("its transparency is dropped")
    dropped = {other.type for other in container.streams if other.type not in ("audio", "video")}
    dropped |= {"second video" for other in container.streams.video if other.index != stream.index}
    if dropped:
        notes.append(f"dropped: {', '.join(sorted(dropped))}")
    return notes
