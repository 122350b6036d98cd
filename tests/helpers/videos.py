"""Synthetic videos: writing, restoring and reading them back. Needs PyAV; test modules that use it skip without it.

Frames are uint8 RGB, (H, W, 3).
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.restoration.video.job import plan_restoration
from jaxdeblur.restoration.video.restore import restore_video

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")


def grey(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a frame of one grey level."""
    return np.full((height, width, 3), value, np.uint8)


def blocks(count: int, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    """Return different frames of random 8x8 blocks."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return list(small.repeat(8, axis=1).repeat(8, axis=2))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    starts: Sequence[int] | None = None,
    sound: bool = True,
    encoder: str = "libx264",
    colorspace: int | None = None,
) -> Path:
    """Write a lossless video and one second of a 440 Hz tone; `starts` are the frames' times in 1/25 s."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(encoder, rate=25, options={"crf": "0"} if encoder == "libx264" else {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv444p"
        video.codec_context.time_base = Fraction(1, 25)
        if colorspace:
            video.codec_context.colorspace = colorspace
        if sound:
            audio = output.add_stream("aac", rate=16000)
            audio.codec_context.layout = "mono"
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace=colorspace or None)
            frame.pts, frame.time_base = starts[i] if starts else i, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound:
            tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, 0
            output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
    return path


def read_video(path: Path) -> tuple[np.ndarray, list[float], list[tuple[int, bytes]]]:
    """Return the frames as stored (N, H, W, 3), their times in seconds, and (time, data) of the audio packets."""
    with av.open(str(path)) as container:
        frames, times, packets = [], [], []
        for packet in container.demux():
            if packet.stream.type == "audio" and packet.dts is not None:
                packets.append((packet.pts, bytes(packet)))
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    frames.append(frame.to_ndarray(format="rgb24"))
                    times.append(float(frame.pts * frame.time_base))
        return np.stack(frames), times, packets


def restore(
    source: Path,
    target: Path,
    function: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
    *,
    quality: int = 0,
    settings: dict[str, str] | None = None,
    **options,
) -> tuple[bool, list[int]]:
    """Restore a video with a function; return whether it was completed, and the values passed to `progress`."""
    counts: list[int] = []
    options = {"batch_size": 3, "stop": lambda: False} | options
    job = plan_restoration(source, target, quality)
    settings = settings or {"weights": "some"}
    completed = restore_video(job, function, settings=settings, progress=counts.append, **options)
    return completed, counts


def stop_after(batches: int) -> Callable[[], bool]:
    """Return a `stop` function that requests a stop after so many batches."""
    answers = iter([False] * batches)
    return lambda: next(answers, True)
