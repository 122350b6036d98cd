"""Synthetic motion blur by averaging consecutive sharp frames of a high-speed camera, like GOPRO_Large.

Nah, Kim, Lee, CVPR 2017 (arXiv 1612.02177), section 2: the mean over a window of frames, of stored values (`blur`) or
of light under a gamma curve of 2.2 (`blur_gamma`); `sharp` is the middle frame. Frames are uint8 RGB (H, W, 3).
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from jaxdeblur.videos.reader import open_video
from jaxdeblur.videos.reader import read_frames as read_video_frames

GAMMA = 2.2  # light = stored value^2.2, both in [0, 1]
_LIGHT = (np.arange(256) / 255) ** GAMMA


def average_frames(
    frames: Sequence[np.ndarray], variants: Sequence[str] = ("blur", "blur_gamma")
) -> dict[str, np.ndarray]:
    """Return `sharp`, the middle of an odd number of frames, and the requested averages, uint8 (H, W, 3).

    `blur` is round(mean(v)), `blur_gamma` is round(255 * mean((v / 255)^2.2)^(1 / 2.2)).
    """
    images = {"sharp": frames[len(frames) // 2]}
    if "blur" in variants:
        total = np.zeros(frames[0].shape, np.uint32)
        for frame in frames:
            total += frame
        images["blur"] = np.rint(total / len(frames)).astype(np.uint8)
    if "blur_gamma" in variants:
        light = np.zeros(frames[0].shape)
        for frame in frames:
            light += _LIGHT[frame]
        images["blur_gamma"] = np.rint(255 * (light / len(frames)) ** (1 / GAMMA)).astype(np.uint8)
    return images


def take_windows(frames: Iterable[np.ndarray], length: int, stride: int) -> Iterator[list[np.ndarray]]:
    """Yield lists of `length` consecutive frames, starting every `stride` frames; holds at most `length` frames.

    Raises:
        InputError: a frame differs in size from the earlier ones (code "frame-size").
    """
    latest: collections.deque[np.ndarray] = collections.deque(maxlen=length)
    for number, frame in enumerate(frames, start=1):
        if latest and frame.shape != latest[0].shape:
            (height, width), (first_height, first_width) = frame.shape[:2], latest[0].shape[:2]
            raise InputError(
                f"frame {number} has {width}x{height} pixels, but earlier ones {first_width}x{first_height}",
                code="frame-size",
            )
        latest.append(frame)
        if number >= length and (number - length) % stride == 0:
            yield list(latest)


def read_frames(source: Path | Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the frames of a video file, or of image files in order, reading one at a time.

    Frames of videos are upright and progressive; what was corrupt, interlaced or missing is printed.

    Raises:
        InputError: a file is unreadable or unsupported (see `videos.reader`), or it is a video and PyAV is not
            installed (code "missing-extra").
    """
    if isinstance(source, Path):
        yield from _read_video(source)
    else:
        yield from map(read_image, source)


def _read_video(path: Path) -> Iterator[np.ndarray]:
    notes: list[str] = []
    for _, frame in read_video_frames(open_video(path), notes):
        yield frame
    for note in notes:
        say(f"note: {path}: {note}.")
