"""Encodes restored frames in segments that are later joined without re-encoding.

Each segment is encoded separately with the same settings, so it starts with a keyframe and refers to no other segment.
Its packets depend only on its frames, not on when earlier segments were encoded.
"""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from jaxdeblur.videos.colours import BT709, RGB, Colours, apply_tags, from_rgb
from jaxdeblur.videos.reader import Video, require_pyav


@dataclasses.dataclass(frozen=True)
class ContainerFormat:
    """The muxer and encoders for files of one suffix, by FFmpeg's names.

    Attributes:
        muxer: of the container.
        encoder: of video.
        audio_encoder: of sound that the container cannot hold unchanged.
    """

    muxer: str
    encoder: str
    audio_encoder: str


CONTAINERS = {
    ".mp4": ContainerFormat("mp4", "libx264", "aac"),
    ".m4v": ContainerFormat("ipod", "libx264", "aac"),
    ".mov": ContainerFormat("mov", "libx264", "aac"),
    ".mkv": ContainerFormat("matroska", "libx264", "flac"),
    ".webm": ContainerFormat("webm", "libvpx-vp9", "libopus"),
}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How the frames of a video are encoded.

    Attributes:
        encoder: FFmpeg's name.
        quality: constant rate factor (CRF); lower is better and larger.
        size: height and width of the encoded frames.
        padding: rows added at the bottom and columns added at the right.
        aspect: width of a pixel over its height.
        pixel_format: FFmpeg's name.
        colours: colour encoding.
        rate: average frames per second.
    """

    encoder: str
    quality: int
    size: tuple[int, int]
    padding: tuple[int, int]
    aspect: Fraction
    pixel_format: str
    colours: Colours
    rate: Fraction


def plan_encoding(video: Video, suffix: str, quality: int) -> tuple[Encoding, list[str]]:
    """Return how a video is encoded in a file with the suffix, and notes on what that changes."""
    encoder, notes, padding = CONTAINERS[suffix].encoder, [], (0, 0)
    (height, width), aspect = video.size, video.aspect
    if aspect != 1 and encoder == "libvpx-vp9":  # VP9 has no field for it, and PyAV cannot set WebM's
        width, aspect = max(round(width * aspect), 1), Fraction(1)
        notes.append(
            f"{suffix} cannot store its pixel aspect ratio, so it is resized to square pixels, {width}x{height}"
        )
    subsampled = video.colours.chroma != "444"
    if subsampled and encoder == "libx264":  # H.264 subsamples chroma in blocks of 2x2 pixels; VP9 rounds up
        padding = (height % 2, width % 2)
    if any(padding):
        height, width = height + padding[0], width + padding[1]
        notes.append(
            f"H.264 needs even sides, so its last row or column is repeated once: {width}x{height} pixels. "
            ".webm keeps odd sides"
        )
    if video.colours.chroma == "422":
        notes.append("its colours are stored at half their vertical resolution (4:2:0)")
    if not subsampled and encoder == "libx264":
        notes.append("its colours keep full resolution (4:4:4), which most phones and browsers cannot play")
    colours = video.colours
    if colours.matrix == RGB:
        colours = dataclasses.replace(colours, matrix=BT709, full_range=False)
    pixel_format = "yuv420p" if subsampled else "yuv444p"
    size = (height, width)
    return Encoding(encoder, quality, size, padding, aspect, pixel_format, colours, video.rate), notes


def configure_encoder(context: Any, encoding: Encoding) -> None:
    """Set up an encoder's context, of a stream or standalone; its time base is one frame at the average rate."""
    from av.codec.context import Flags

    context.height, context.width = encoding.size
    context.pix_fmt = encoding.pixel_format
    context.framerate, context.time_base = encoding.rate, 1 / encoding.rate
    context.sample_aspect_ratio = encoding.aspect
    context.flags |= Flags.global_header
    context.options = {"crf": str(encoding.quality)} | ({"b": "0"} if encoding.encoder == "libvpx-vp9" else {})
    apply_tags(context, encoding.colours)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Consecutive encoded frames.

    Attributes:
        times: int64 (N,), of the frames in display order, in units of the video's time base.
        packets: encoded frames in decoding order.
        display_indices: int64 (N,), for each packet the index of its frame in `times`.
        keyframes: bool (N,), for each packet.
    """

    times: np.ndarray
    packets: list[bytes]
    display_indices: np.ndarray
    keyframes: np.ndarray


class SegmentEncoder:
    """Encodes the frames of one segment as they arrive."""

    def __init__(self, encoding: Encoding):
        av = require_pyav()
        self._encoding = encoding
        self._context = av.CodecContext.create(encoding.encoder, "w")
        configure_encoder(self._context, encoding)
        self._times: list[int] = []
        self._packets: list[Any] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, image: np.ndarray, time: int) -> None:
        """Encode an RGB frame, uint8 (H, W, 3), whose time is in units of the video's time base."""
        encoding = self._encoding
        image = np.pad(image, ((0, encoding.padding[0]), (0, encoding.padding[1]), (0, 0)), mode="edge")
        frame = from_rgb(image, encoding.pixel_format, encoding.colours, encoding.size)
        frame.pts, frame.time_base = len(self._times), 1 / encoding.rate
        self._times.append(time)
        self._packets += self._context.encode(frame)

    def finish(self) -> Segment:
        """Flush the encoder and return the segment."""
        packets = self._packets + self._context.encode(None)
        display_indices = [round(packet.pts * packet.time_base * self._encoding.rate) for packet in packets]
        return Segment(
            np.array(self._times, np.int64),
            [bytes(packet) for packet in packets],
            np.array(display_indices, np.int64),
            np.array([packet.is_keyframe for packet in packets]),
        )


def decoding_times(times: np.ndarray, display_indices: np.ndarray) -> np.ndarray:
    """Return each packet's decoding time, int64 (N,): strictly increasing, and never after its frame's display time.

    Args:
        times: int64 (N,), strictly increasing, of the frames in display order.
        display_indices: int64 (N,), for each packet, in decoding order, the index of its frame in `times`.
    """
    delay = int(np.max(np.arange(len(display_indices)) - display_indices, initial=0))
    # Decoding runs `delay` frames ahead of display; before the first frame, the first intervals are repeated.
    before = times[0] - (times[delay] - times[:delay])
    return np.concatenate([before, times[: len(times) - delay]])
