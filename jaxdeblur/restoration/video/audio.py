"""The sound of a restored video: copied where the container can hold it, re-encoded or refused where it cannot."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.restoration.video.source import Clip, open_container, require_pyav, unreadable

BITS_PER_CHANNEL = 128_000  # per second, of sound that is re-encoded with loss
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # of files that only count their channels
# Tags that describe how the source was stored, and no longer hold.
_STORAGE_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_", "ENCODER", "VENDOR_ID", "ROTATE")

# QuickTime's codes of languages, where they are not those of ISO 639-2/T.
_QUICKTIME_LANGUAGES = {"deu": "ger", "ell": "gre", "isl": "ice", "nld": "dut", "swe": "sve", "zho": "chi"}


@dataclasses.dataclass(frozen=True)
class AudioTrack:
    """How one stream of sound is written.

    Attributes:
        index: the stream's in its file.
        encoder: FFmpeg's name; "" copies the stream.
    """

    index: int
    encoder: str


def plan_audio(clip: Clip, suffix: str) -> tuple[list[AudioTrack], list[str]]:
    """Return how each audio stream is written to a file with the suffix, and notes on what that changes.

    Raises:
        InputError: a stream can be neither copied nor decoded ("video-audio-codec").
    """
    tracks, notes = [], []
    with open_container(clip.path) as container:
        for number, stream in enumerate(container.streams.audio, start=1):
            encoder = "" if _fits(stream, suffix, "") else CONTAINERS[suffix].audio_encoder
            name = stream.codec_context.codec.canonical_name if stream.codec_context else "of an unknown codec"
            if encoder and not (stream.codec_context and _fits(stream, suffix, encoder)):
                raise InputError(
                    f"{clip.path}: audio stream {number} ({name}) can be neither copied to {suffix} nor re-encoded. "
                    "Choose .mkv, or convert the sound first.",
                    code="video-audio-codec",
                )
            if encoder:
                notes.append(f"audio stream {number} ({name}) does not fit {suffix} and is re-encoded as {encoder}")
            tracks.append(AudioTrack(stream.index, encoder))
    return tracks, notes


def _fits(stream: Any, suffix: str, encoder: str) -> bool:
    """Return whether a container can hold a stream, copied or encoded, by writing a header to memory."""
    av = require_pyav()
    # MP4 can hold PCM, but hardly any player reads it.
    if not encoder and suffix == ".mp4" and (not stream.codec_context or stream.codec_context.name.startswith("pcm_")):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=CONTAINERS[suffix].muxer) as output:
            _add_stream(output, stream, encoder)
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _add_stream(output: Any, source: Any, encoder: str) -> Any:
    """Return a stream of an output for the sound of a source, with its language, title and flags."""
    if not encoder:
        stream = output.add_stream_from_template(source)
    else:
        from av.codec import Codec

        rates = Codec(encoder, "w").audio_rates
        stream = output.add_stream(encoder, rate=source.rate if not rates or source.rate in rates else 48000)
        stream.codec_context.layout = _layout(source)
        if encoder != "flac":
            stream.codec_context.bit_rate = BITS_PER_CHANNEL * source.channels
    copy_tags(source, stream)
    return stream


def copy_tags(source: Any, stream: Any) -> None:
    """Give a stream the language, title and other tags of its source, and its flags (default, commentary, ...)."""
    tags = {name: text for name, text in source.metadata.items() if not name.upper().startswith(_STORAGE_TAGS)}
    if "name" in tags:  # how MP4 and MOV call a title
        tags.setdefault("title", tags.pop("name"))
    if stream.container.format.name == "mov" and "language" in tags:
        tags["language"] = _QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
    stream.metadata.update(tags)
    stream.disposition = source.disposition


def lost_tags(source: Path, result: Path) -> list[str]:
    """Return which languages, titles and flags of audio streams a result lacks because its format cannot hold them."""
    lost = []
    with open_container(source) as before, open_container(result) as after:
        for number, (old, new) in enumerate(zip(before.streams.audio, after.streams.audio, strict=True), start=1):
            found = _description(new)
            missing = [text for name, text in _description(old).items() if text and found[name] != text]
            missing += [flag.name for flag in type(old.disposition) if flag & old.disposition & ~new.disposition]
            if missing:
                lost.append(f"{result.suffix} cannot hold of audio stream {number}: {', '.join(missing)}")
    return lost


def _description(stream: Any) -> dict[str, str]:
    language = stream.metadata.get("language", "")
    return {
        "language": "" if language == "und" else _QUICKTIME_LANGUAGES.get(language, language),
        "title": stream.metadata.get("title") or stream.metadata.get("name", ""),
    }


def _layout(source: Any) -> str:
    return _LAYOUTS.get(source.channels, source.layout.name)


class AudioWriter:
    """Moves the sound of a video file to an output."""

    def __init__(self, path: Path, container: Any, output: Any, tracks: Sequence[AudioTrack]):
        """Add a stream to the output for each track of the container that is read."""
        self.num_damaged = 0  # packets that were left out
        self._path, self._container = path, container
        self._last: dict[int, int] = {}  # of each stream: the time of the last packet
        self._tracks = {track.index: track for track in tracks}
        self._streams = {
            index: _add_stream(output, container.streams[index], track.encoder) for index, track in self._tracks.items()
        }

    def packets(self) -> Iterator[Any]:
        """Yield the packets to write, each stream's in order.

        Raises:
            InputError: the file cannot be read to its end ("video-unreadable"), or sound to be re-encoded changes its
                rate, layout or format on the way ("video-audio-changes").
        """
        av = require_pyav()
        for packet in self._demuxed():
            index = packet.stream.index
            if self._tracks[index].encoder:
                try:
                    frames = packet.decode()
                except av.InvalidDataError:  # players skip it too
                    self.num_damaged += 1
                    continue
                for frame in frames:
                    yield from self._encoded(index, frame)
            elif packet.dts is not None:  # without one it only says that the stream ends
                packet.stream = self._streams[index]
                self._advance(index, packet)
                yield packet
        for index, track in self._tracks.items():
            if track.encoder:
                yield from self._encoded(index, None)

    def _advance(self, index: int, packet: Any) -> None:
        """Move a packet that is not later than the one before it to just after that one, as muxers demand."""
        last = self._last.get(index)
        if last is not None and packet.dts <= last:
            packet.dts = last + 1
            packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else packet.dts
        self._last[index] = packet.dts

    def _demuxed(self) -> Iterator[Any]:
        av = require_pyav()
        try:
            if self._tracks:
                yield from self._container.demux([self._container.streams[index] for index in self._tracks])
        except av.FFmpegError as error:
            raise unreadable(self._path, error) from error

    def _encoded(self, index: int, frame: Any) -> list[Any]:
        av = require_pyav()
        try:
            return self._streams[index].encode(frame)
        except av.FFmpegError:
            raise
        except ValueError as error:  # of PyAV's resampler
            raise InputError(
                f"{self._path}: its sound changes from one format to another, so it cannot be re-encoded. Choose .mkv, "
                "which holds it as it is.",
                code="video-audio-changes",
            ) from error
