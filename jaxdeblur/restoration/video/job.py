"""What is done to one video: its encoding, its sound and its target."""

import dataclasses
from pathlib import Path

from jaxdeblur.restoration.video.audio import AudioTrack, plan_audio
from jaxdeblur.restoration.video.encoding import Encoding, plan_encoding
from jaxdeblur.videos.reader import Video, open_video


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
