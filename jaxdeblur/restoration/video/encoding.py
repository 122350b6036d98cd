"""How restored frames are encoded, and encoding them in segments that are joined without encoding again.

Every segment is encoded by itself with the same settings, so it starts with a keyframe and refers to no other. What an
encoder yields depends on the frames of its segment alone, not on when the segments before it were encoded.
"""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from jaxdeblur.restoration.video.colours import BT709, RGB, Colours, apply_tags, from_rgb
from jaxdeblur.restoration.video.source import Clip, require_pyav


@dataclasses.dataclass(frozen=True)
class ContainerFormat:
    """What files of one suffix hold.

    Attributes:
        muxer: FFmpeg's name of the format.
        encoder: FFmpeg's name of the video encoder.
        audio_encoder: FFmpeg's name of the encoder for sound that the format cannot hold as it is.
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
    """How the frames of a clip are encoded.

    Attributes:
        encoder: FFmpeg's name.
        quality: constant rate factor (CRF); less is better and larger.
        size: height and width of the encoded frames.
        padding: rows below and columns at the right that are encoded in addition to the picture.
        aspect: width of a pixel over its height.
        pixel_format: FFmpeg's name.
        colours: the tags.
        rate: frames per second, on average.
    """

    encoder: str
    quality: int
    size: tuple[int, int]
    padding: tuple[int, int]
    aspect: Fraction
    pixel_format: str
    colours: Colours
    rate: Fraction


def plan_encoding(clip: Clip, suffix: str, quality: int) -> tuple[Encoding, list[str]]:
    """Return how a clip is encoded in a file with the suffix, and notes on what that changes."""
    encoder, notes, padding = CONTAINERS[suffix].encoder, [], (0, 0)
    (height, width), aspect = clip.size, clip.aspect
    if aspect != 1 and encoder == "libvpx-vp9":  # VP9 has no field for it, and PyAV cannot set WebM's
        width, aspect = max(round(width * aspect), 1), Fraction(1)
        notes.append(
            f"{suffix} cannot hold its pixel aspect ratio, so it is resized to square pixels, {width}x{height}"
        )
    subsampled = clip.colours.chroma != "444"
    if subsampled and encoder == "libx264":  # H.264 stores colours for blocks of 2x2 pixels only; VP9 rounds up
        padding = (height % 2, width % 2)
    if any(padding):
        height, width = height + padding[0], width + padding[1]
        notes.append(
            f"H.264 needs even sides, so its last row or column is repeated once: {width}x{height} pixels. "
            ".webm keeps odd sides"
        )
    if clip.colours.chroma == "422":
        notes.append("its colours are stored at half their vertical resolution (4:2:0)")
    if not subsampled and encoder == "libx264":
        notes.append("its colours stay at full resolution (4:4:4), which most phones and browsers cannot play")
    colours = clip.colours
    if colours.matrix == RGB:
        colours = dataclasses.replace(colours, matrix=BT709, full_range=False)
    pixel_format = "yuv420p" if subsampled else "yuv444p"
    size = (height, width)
    return Encoding(encoder, quality, size, padding, aspect, pixel_format, colours, clip.rate), notes


def configure_encoder(context: Any, encoding: Encoding) -> None:
    """Set up an encoder's context, of a stream or on its own; its unit of time is one frame at the average rate."""
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
    """Consecutive frames, encoded.

    Attributes:
        times: int64 (N,), of the frames in the order they are shown, in units of the clip's time base.
        packets: the encoded frames in the order they are decoded.
        places: int64 (N,), which of `times` is each packet's.
        keyframes: bool (N,), of each packet.
    """

    times: np.ndarray
    packets: list[bytes]
    places: np.ndarray
    keyframes: np.ndarray


class SegmentEncoder:
    """Encodes the frames of one segment as they come."""

    def __init__(self, encoding: Encoding):
        av = require_pyav()
        self._encoding = encoding
        self._context = av.CodecContext.create(encoding.encoder, "w")
        configure_encoder(self._context, encoding)
        self._times: list[int] = []
        self._packets: list[Any] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, picture: np.ndarray, time: int) -> None:
        """Encode an RGB picture, uint8 (H, W, 3), that is shown at a time in units of the clip's time base."""
        encoding = self._encoding
        picture = np.pad(picture, ((0, encoding.padding[0]), (0, encoding.padding[1]), (0, 0)), mode="edge")
        frame = from_rgb(picture, encoding.pixel_format, encoding.colours, encoding.size)
        frame.pts, frame.time_base = len(self._times), 1 / encoding.rate
        self._times.append(time)
        self._packets += self._context.encode(frame)

    def finish(self) -> Segment:
        """Return the segment."""
        packets = self._packets + self._context.encode(None)
        places = [round(packet.pts * packet.time_base * self._encoding.rate) for packet in packets]
        keyframes = [packet.is_keyframe for packet in packets]
        return Segment(
            np.array(self._times, np.int64),
            [bytes(packet) for packet in packets],
            np.array(places, np.int64),
            np.array(keyframes),
        )


def decoding_times(times: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return when each packet is decoded: strictly increasing, and never after its frame is shown.

    Args:
        times: int64 (N,), strictly increasing, of frames in the order they are shown.
        places: int64 (N,), which of `times` is each packet's, in the order of decoding.
    """
    delay = int(np.max(np.arange(len(places)) - places, initial=0))
    # Decoding runs `delay` frames ahead of display; before the first frame, the first intervals are repeated.
    before = times[0] - (times[delay] - times[:delay])
    return np.concatenate([before, times[: len(times) - delay]])
