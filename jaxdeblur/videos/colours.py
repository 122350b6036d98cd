"""Conversion between decoded video frames and RGB, with explicit colour matrix and range.

RGB is uint8, (H, W, 3), full range. A frame is PyAV's `VideoFrame`; its colour encoding is read from the frame itself,
because the file's header may not state it.
"""

import dataclasses
from typing import Any

import numpy as np

# Values of FFmpeg's AVColorSpace and AVColorRange.
RGB, BT709, UNSPECIFIED = 0, 1, 2
RESERVED = (0, 3)  # for YUV: written by some encoders, treated as unspecified by decoders
LIMITED, FULL = 1, 2
# swscale's matrix for each AVColorSpace. Unspecified is BT.601, as in FFmpeg.
MATRICES = {1: 1, 2: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


@dataclasses.dataclass(frozen=True)
class Colours:
    """The colour encoding of a video, in FFmpeg's numbers.

    Attributes:
        matrix: AVColorSpace.
        full_range: black and white are 0 and 255 rather than 16 and 235.
        primaries: AVColorPrimaries.
        transfer: AVColorTransferCharacteristic.
        chroma: subsampling: "444" (none), "422" or "420".
    """

    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    chroma: str


def colours_of(frame: Any) -> Colours:
    """Return a frame's colour encoding."""
    luma, chroma = frame.format.components[0], frame.format.components[min(1, len(frame.format.components) - 1)]
    halved_width, halved_height = chroma.width < luma.width, chroma.height < luma.height
    subsampling = "420" if halved_height or is_grey(frame) else "422" if halved_width else "444"
    tags = (frame.colorspace, frame.color_primaries, frame.color_trc)
    matrix, primaries, transfer = (UNSPECIFIED if int(tag) in RESERVED else int(tag) for tag in tags)
    return Colours(RGB if is_rgb(frame) else matrix, is_full_range(frame), primaries, transfer, subsampling)


def is_grey(frame: Any) -> bool:
    """Return whether a frame has only luma, with or without alpha."""
    return len(frame.format.components) < 3 and not is_rgb(frame)


def is_rgb(frame: Any) -> bool:
    """Return whether a frame stores RGB or indices into an RGB palette."""
    return frame.format.is_rgb or frame.format.has_palette


def is_full_range(frame: Any) -> bool:
    """Return whether luma spans 0 to 255; if unspecified, only for RGB, yuvj formats and grey."""
    if is_rgb(frame) or frame.format.name.startswith("yuvj"):
        return True
    return frame.color_range == FULL or (is_grey(frame) and frame.color_range != LIMITED)


def to_rgb(frame: Any) -> np.ndarray:
    """Return a decoded frame as RGB."""
    if is_grey(frame):  # swscale treats grey as full range whatever its tag
        return np.repeat(_grey_levels(frame)[..., None], 3, axis=2)
    options = {"format": "rgb24", "dst_color_range": FULL, "interpolation": _interpolation()}
    if not is_rgb(frame):
        options["src_colorspace"] = MATRICES[colours_of(frame).matrix]
        options["src_color_range"] = FULL if is_full_range(frame) else LIMITED
    return frame.reformat(**options).to_ndarray()


def _grey_levels(frame: Any) -> np.ndarray:
    """Return the luma of a grey frame, uint8 (H, W), full range."""
    luma = frame.reformat(format="gray8", src_color_range=FULL, dst_color_range=FULL).to_ndarray()
    if is_full_range(frame):
        return luma
    return np.clip(np.rint((luma.astype(np.float32) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def from_rgb(image: np.ndarray, pixel_format: str, colours: Colours, size: tuple[int, int]) -> Any:
    """Return RGB as a YUV frame with a colour encoding and its tags.

    Args:
        image: uint8 (H, W, 3).
        pixel_format: FFmpeg's name.
        colours: the encoding; its matrix must not be RGB.
        size: height and width of the frame; an image of another size is resized.
    """
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
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
    """Set the colour tags of a frame or an encoder's context."""
    target.colorspace, target.color_range = colours.matrix, FULL if colours.full_range else LIMITED
    target.color_primaries, target.color_trc = colours.primaries, colours.transfer


def _interpolation() -> Any:
    from av.video.reformatter import Interpolation

    # Without the last two swscale is faster, but off by up to 3 levels of 255, and darker on average.
    return Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
