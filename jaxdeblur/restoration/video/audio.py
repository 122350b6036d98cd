"""Sound of restored videos: copied if the container supports it, otherwise re-encoded or refused."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.videos.reader import Video, open_container, require_pyav, unreadable

BIT_RATE_PER_CHANNEL = 128_000  # bits per second, of lossy re-encoding
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # for files that state only the number of channels
# Prefixes of tags that describe how the source was stored, which no longer applies.
_STORAGE_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_", "ENCODER", "VENDOR_ID", "ROTATE")
# QuickTime's language codes where they differ from ISO 639-2/T.
_QUICKTIME_LANGUAGES = {"deu": "ger", "ell": "gre", "isl": "ice", "nld": "dut", "swe": "sve", "zho": "chi"}


@dataclasses.dataclass(frozen=True)
class AudioTrack:
    """How one audio stream is written.

    Attributes:
        index: of the stream in its file.
        encoder: FFmpeg's name; "" copies the stream.
    """

    index: int
    encoder: str


def plan_audio(video: Video, suffix: str) -> tuple[list[AudioTrack], list[str]]:
    """Return how each audio stream is written to a file with the suffix, and notes on what that changes.

    Raises:
        InputError: a stream can be neither copied nor decoded ("video-audio-codec").
    """
    tracks, notes = [], []
    with open_container(video.path) as container:
        for number, stream in enumerate(container.streams.audio, start=1):
            encoder = "" if _is_supported(stream, suffix, "") else CONTAINERS[suffix].audio_encoder
            name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown codec"
            if encoder and not (stream.codec_context and _is_supported(stream, suffix, encoder)):
                raise InputError(
                    f"{video.path}: audio stream {number} ({name}) can be neither copied to {suffix} nor re-encoded. "
                    "Choose .mkv, or convert the sound first.",
                    code="video-audio-codec",
                )
            if encoder:
                notes.append(f"{suffix} does not support audio stream {number} ({name}); it is re-encoded as {encoder}")
            tracks.append(AudioTrack(stream.index, encoder))
    return tracks, notes


def _is_supported(stream: Any, suffix: str, encoder: str) -> bool:
    """Return whether a container supports a stream, copied or encoded, by writing a header to memory."""
    av = require_pyav()
    # MP4 can store PCM, but hardly any player reads it.
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
    """Add and return an output stream for a source stream, with its tags and flags."""
    if not encoder:
        stream = output.add_stream_from_template(source)
    else:
        from av.codec import Codec

        rates = Codec(encoder, "w").audio_rates
        stream = output.add_stream(encoder, rate=source.rate if not rates or source.rate in rates else 48000)
        stream.codec_context.layout = _layout(source)
        if encoder != "flac":
            stream.codec_context.bit_rate = BIT_RATE_PER_CHANNEL * source.channels
    copy_tags(source, stream)
    return stream


def copy_tags(source: Any, stream: Any) -> None:
    """Copy a stream's language, title and other tags, and its flags (default, commentary, ...)."""
    tags = {name: text for name, text in source.metadata.items() if not name.upper().startswith(_STORAGE_TAGS)}
    if "name" in tags:  # the title in MP4 and MOV
        tags.setdefault("title", tags.pop("name"))
    if stream.container.format.name == "mov" and "language" in tags:
        tags["language"] = _QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
    stream.metadata.update(tags)
    stream.disposition = source.disposition


def lost_tags(source: Path, result: Path) -> list[str]:
    """Return notes on languages, titles and flags of audio streams that the result's format cannot store."""
    notes = []
    with open_container(source) as before, open_container(result) as after:
        for number, (old, new) in enumerate(zip(before.streams.audio, after.streams.audio, strict=True), start=1):
            result_tags = _language_and_title(new)
            lost = [text for name, text in _language_and_title(old).items() if text and result_tags[name] != text]
            lost += [flag.name for flag in type(old.disposition) if flag & old.disposition & ~new.disposition]
            if lost:
                notes.append(f"{result.suffix} cannot store these tags of audio stream {number}: {', '.join(lost)}")
    return notes


def _language_and_title(stream: Any) -> dict[str, str]:
    language = stream.metadata.get("language", "")
    return {
        "language": "" if language == "und" else _QUICKTIME_LANGUAGES.get(language, language),
        "title": stream.metadata.get("title") or stream.metadata.get("name", ""),
    }


def _layout(source: Any) -> str:
    return _LAYOUTS.get(source.channels, source.layout.name)


class AudioWriter:
    """Transfers the sound of a video file to an output.

    Attributes:
        num_corrupt: packets dropped because they cannot be decoded.
    """

    def __init__(self, path: Path, container: Any, output: Any, tracks: Sequence[AudioTrack]):
        """Add a stream to the output for each track.

        Args:
            path: of the source, for messages.
            container: the source, open for reading.
            output: the container to write to.
            tracks: see `plan_audio`.
        """
        self.num_corrupt = 0
        self._path, self._container = path, container
        self._last_times: dict[int, int] = {}  # of each stream's last packet
        self._tracks = {track.index: track for track in tracks}
        self._streams = {
            index: _add_stream(output, container.streams[index], track.encoder) for index, track in self._tracks.items()
        }

    def packets(self) -> Iterator[Any]:
        """Yield the packets to write, in order within each stream.

        Raises:
            InputError: the file cannot be read to its end ("video-unreadable"), or sound to be re-encoded changes its
                rate, layout or format in the middle ("video-audio-changes").
        """
        av = require_pyav()
        for packet in self._demuxed():
            index = packet.stream.index
            if self._tracks[index].encoder:
                try:
                    frames = packet.decode()
                except av.InvalidDataError:  # players skip it too
                    self.num_corrupt += 1
                    continue
                for frame in frames:
                    yield from self._encoded(index, frame)
            elif packet.dts is not None:  # a packet without one marks the stream's end
                packet.stream = self._streams[index]
                self._advance(index, packet)
                yield packet
        for index, track in self._tracks.items():
            if track.encoder:
                yield from self._encoded(index, None)

    def _advance(self, index: int, packet: Any) -> None:
        """Move a packet that is not later than the previous one to just after it, as muxers require."""
        last = self._last_times.get(index)
        if last is not None and packet.dts <= last:
            packet.dts = last + 1
            packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else packet.dts
        self._last_times[index] = packet.dts

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
        except ValueError as error:  # from PyAV's resampler
            raise InputError(
                f"{self._path}: its audio format changes in the middle, so it cannot be re-encoded. Choose .mkv, which "
                "stores it unchanged.",
                code="video-audio-changes",
            ) from error
