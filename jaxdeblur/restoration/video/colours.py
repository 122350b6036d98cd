"""Conversion between decoded video frames and RGB, with matrix and range always stated, never guessed.

RGB is uint8, (H, W, 3), full range. A frame is PyAV's; how its samples encode colours is read from the frame itself,
because a file's header may be silent about it.
"""

import dataclasses
from typing import Any

import numpy as np

# Values of FFmpeg's AVColorSpace and AVColorRange.
RGB, BT709, UNSPECIFIED = 0, 1, 2
RESERVED = (0, 3)  # of YUV: some encoders write them, and decoders take them for "not specified"
LIMITED, FULL = 1, 2
# The matrix swscale converts with, for each AVColorSpace. One that is not stated is BT.601, as in FFmpeg.
MATRICES = {1: 1, 2: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


@dataclasses.dataclass(frozen=True)
class Colours:
    """How a video encodes colours, in FFmpeg's numbers.

    Attributes:
        matrix: AVColorSpace.
        full_range: black and white are 0 and 255 rather than 16 and 235.
        primaries: AVColorPrimaries.
        transfer: AVColorTransferCharacteristic.
        chroma: "444" where every pixel has its own colour, else "420" or "422".
    """

    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    chroma: str


def colours_of(frame: Any) -> Colours:
    """Return how a frame encodes colours."""
    first, second = frame.format.components[0], frame.format.components[min(1, len(frame.format.components) - 1)]
    halved_width, halved_height = second.width < first.width, second.height < first.height
    chroma = "420" if halved_height or is_grey(frame) else "422" if halved_width else "444"
    tags = (frame.colorspace, frame.color_primaries, frame.color_trc)
    matrix, primaries, transfer = (UNSPECIFIED if int(tag) in RESERVED else int(tag) for tag in tags)
    return Colours(RGB if is_rgb(frame) else matrix, is_full_range(frame), primaries, transfer, chroma)


def is_grey(frame: Any) -> bool:
    """Return whether a frame has luma only; alpha does not count."""
    return len(frame.format.components) < 3 and not is_rgb(frame)


def is_rgb(frame: Any) -> bool:
    """Return whether a frame stores red, green and blue, or indexes into a palette of them."""
    return frame.format.is_rgb or frame.format.has_palette


def is_full_range(frame: Any) -> bool:
    """Return whether luma spans 0 to 255; if nothing says so, only RGB, yuvj formats and grey do."""
    if is_rgb(frame) or frame.format.name.startswith("yuvj"):
        return True
    return frame.color_range == FULL or (is_grey(frame) and frame.color_range != LIMITED)


def to_rgb(frame: Any) -> np.ndarray:
    """Return a decoded frame as RGB."""
    if is_grey(frame):  # swscale takes grey for full range whatever its tag says
        grey = _grey_levels(frame)
        return np.repeat(grey[..., None], 3, axis=2)
    options = {"format": "rgb24", "dst_color_range": FULL, "interpolation": _interpolation()}
    if not is_rgb(frame):
        options["src_colorspace"] = MATRICES[colours_of(frame).matrix]
        options["src_color_range"] = FULL if is_full_range(frame) else LIMITED
    return frame.reformat(**options).to_ndarray()


def _grey_levels(frame: Any) -> np.ndarray:
    """Return the luma of a grey frame, (H, W), in full range."""
    grey = frame.reformat(format="gray8", src_color_range=FULL, dst_color_range=FULL).to_ndarray()
    if is_full_range(frame):
        return grey
    return np.clip(np.rint((grey.astype(np.float32) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def from_rgb(picture: np.ndarray, pixel_format: str, colours: Colours, size: tuple[int, int]) -> Any:
    """Return RGB as a frame of a YUV format that encodes, and is tagged with, the given colours.

    Args:
        picture: uint8 (H, W, 3).
        pixel_format: FFmpeg's name.
        colours: matrix and range must not be those of RGB.
        size: height and width of the frame; the picture is resized if it has another size.
    """
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
        height=size[0],
        width=size[1],
        format=pixel_format,
        src_color_range=FULL,
        dst_colorspace=MATRICES[colours.matrix],
        dst_color_range=FULL if colours.full_range else LIMITED,
        interpolation=_interpolation(),
    )
    apply_tags(frame, colours)
    return frame


def apply_tags(target: Any, colours: Colours) -> None:
    """Tag a frame or an encoder's context with how its samples encode colours."""
    target.colorspace, target.color_range = colours.matrix, FULL if colours.full_range else LIMITED
    target.color_primaries, target.color_trc = colours.primaries, colours.transfer


def _interpolation() -> Any:
    from av.video.reformatter import Interpolation

    # Without the last two swscale is faster, but off by up to 3 levels of 255, and darker on average.
    return Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
