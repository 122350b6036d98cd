"""Colours survive in any pixel format, matrix, range and container: grey levels and a red.

Oracles: the equations of the standards, written out below, encode sources and decode results; so does the command
`ffmpeg`.
"""

import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.job import plan_restoration
from jaxdeblur.videos import colours as video_colours
from tests.helpers.videos import av, restore

GREYS = (0, 16, 64, 128, 192, 235, 255)
PATCHES = [*((value,) * 3 for value in GREYS), (200, 30, 40)]
# Weights of red and blue in luma (ITU-R BT.709-6, BT.601-7, BT.2020-2), by FFmpeg's AVColorSpace.
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2
LOSSLESS = {
    "libx264": {"crf": "0"},
    "libx264rgb": {"crf": "0"},
    "libvpx-vp9": {"lossless": "1"},
    "mjpeg": {"qmin": "1", "qscale": "1"},  # its best
}


def make_patches():
    """Return a row of patches of 32x16 pixels, uint8 (32, 128, 3)."""
    return np.array([PATCHES], np.uint8).repeat(32, axis=0).repeat(16, axis=1)


def patch_means(image):
    """Return the mean colour of each patch's centre, unaffected by chroma subsampling, (8, 3)."""
    return image.reshape(32, 8, 16, 3)[8:24, :, 4:12].mean(axis=(0, 2))


def to_yuv(rgb, matrix, full, bits):
    """Return Y, Cb and Cr of RGB, float (3, H, W), at a bit depth."""
    red, blue = LUMA[matrix]
    r, g, b = np.moveaxis(rgb / 255.0, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if full:
        top = 2**bits - 1
        return np.stack([y * top, cb * top + 2 ** (bits - 1), cr * top + 2 ** (bits - 1)])
    return np.stack([16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr]) * 2 ** (bits - 8)


def to_rgb(yuv, matrix, full):
    """Return RGB, float (H, W, 3) in [0, 255], from 8-bit Y, Cb and Cr, float (3, H, W)."""
    red, blue = LUMA[matrix]
    y, cb, cr = (yuv - [[[0]], [[128]], [[128]]]) / 255 if full else (yuv - [[[16]], [[128]], [[128]]]) / 219
    cb, cr = (cb, cr) if full else (cb * 219 / 224, cr * 219 / 224)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.clip(np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1), 0, 1) * 255


def make_frame(pixel_format, matrix, full):
    """Return the patches as a frame in RGB or a planar YUV format."""
    if pixel_format == "rgb24":
        return av.VideoFrame.from_ndarray(make_patches(), format="rgb24")
    frame = av.VideoFrame(128, 32, pixel_format)
    bits = frame.format.components[0].bits
    for plane, values in zip(frame.planes, to_yuv(make_patches(), matrix, full, bits), strict=False):
        values = np.rint(values[:: 32 // plane.height, :: 128 // plane.width])
        lines = np.zeros((plane.height, plane.line_size // (1 + (bits > 8))), np.uint16 if bits > 8 else np.uint8)
        lines[:, : plane.width] = np.clip(values, 0, 2**bits - 1)
        plane.update(lines.tobytes())
    frame.colorspace, frame.color_range = matrix, FULL if full else LIMITED
    return frame


def write_source(path, encoder, pixel_format, matrix, full):
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=25, options=LOSSLESS.get(encoder, {}))
        stream.width, stream.height, stream.pix_fmt = 128, 32, pixel_format
        frame = make_frame(pixel_format, matrix, full)
        context = stream.codec_context
        context.colorspace, context.color_range = frame.colorspace, frame.color_range
        for i in range(2):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def decode(path):
    """Return the first frame as RGB by the standards' equations, its matrix, and whether it has full range."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    planes = []
    for plane in frame.planes:
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        planes.append(lines.repeat(32 // plane.height, axis=0).repeat(128 // plane.width, axis=1))
    matrix, full = int(frame.colorspace), frame.color_range == FULL
    return to_rgb(np.stack(planes).astype(float), matrix, full), matrix, full


SOURCES = [
    (suffix, encoder, pixel_format, matrix, full)
    for suffix, encoder, pixel_format in (
        (".mp4", "libx264", "yuv420p"),
        (".mp4", "libx264", "yuv444p"),
        (".mkv", "libx264", "yuv420p10le"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".mkv", "ffv1", "yuv422p"),
        (".mkv", "ffv1", "gray"),
    )
    for matrix in (1, 5, 9)
    for full in (False, True)
]
SOURCES += [(".mp4", "libx264", "yuvj420p", matrix, True) for matrix in (1, 6, 9)]
SOURCES += [(".mov", "mjpeg", pixel_format, 5, True) for pixel_format in ("yuvj420p", "yuvj422p", "yuvj444p")]
SOURCES += [(".mkv", "libx264rgb", "rgb24", 1, True)]


def check(image, source):
    expected = np.array(PATCHES, float)
    if source[2] == "gray":
        red, blue = LUMA[source[3]]
        expected[-1] = expected[-1] @ [red, 1 - red - blue, blue]
    assert np.abs(patch_means(image) - expected)[:-1].max() <= 2
    assert np.abs(patch_means(image) - expected)[-1].max() <= 3


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: "-".join(map(str, source[1:])))
def test_colours_survive(tmp_path, source):
    suffix, encoder, pixel_format, matrix, full = source
    path = write_source(tmp_path / f"in{suffix}", encoder, pixel_format, matrix, full)
    inputs = []
    assert restore(path, tmp_path / "out.mp4", lambda frames: inputs.append(frames) or frames, batch_size=2)[0]
    check(inputs[0][0], source)  # the network's input
    result, result_matrix, result_full = decode(tmp_path / "out.mp4")
    check(result, source)
    assert (result_matrix, result_full) == (matrix, full and pixel_format != "rgb24")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("suffix", [".mov", ".m4v", ".mkv", ".webm"])
def test_colours_survive_in_every_container(tmp_path, suffix, full):
    source = (".mp4", "libx264", "yuv420p", 9, full)
    path = write_source(tmp_path / "in.mp4", *source[1:])
    assert restore(path, tmp_path / f"out{suffix}", batch_size=2)[0]
    result, matrix, result_full = decode(tmp_path / f"out{suffix}")
    check(result, source)
    assert (matrix, result_full) == (9, full)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg command")
@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(
    "source",
    [
        (".mp4", "libx264", "yuvj420p", 1, True),
        (".mp4", "libx264", "yuv420p", 9, False),
        (".mov", "mjpeg", "yuvj420p", 5, True),
        (".webm", "libvpx-vp9", "yuv420p", 1, True),
        (".mkv", "libx264rgb", "rgb24", 1, True),
    ],
    ids=lambda source: "-".join(map(str, source[1:])),
)
def test_ffmpeg_decodes_the_same_colours(tmp_path, source, target):
    path = write_source(tmp_path / f"in{source[0]}", *source[1:])
    assert restore(path, tmp_path / f"out{target}", batch_size=2)[0]
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / f"out{target}"), "-frames:v", "1"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    check(np.frombuffer(data, np.uint8).reshape(32, 128, 3), source)


def test_an_unsupported_matrix_is_refused(tmp_path):
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv444p"
        stream.codec_context.colorspace = 8  # YCgCo
        output.mux(stream.encode(make_frame("yuv444p", 1, False)))
        output.mux(stream.encode(None))
    with pytest.raises(InputError) as error:
        plan_restoration(path, tmp_path / "out.mp4", 16)
    assert error.value.code == "video-colour-matrix"


def test_reserved_tags_count_as_unspecified():
    """Some hardware decoders set them."""
    frame = make_frame("yuv444p", 6, False)
    frame.colorspace, frame.color_primaries, frame.color_trc = 3, 3, 0
    colours = video_colours.colours_of(frame)
    assert (colours.matrix, colours.primaries, colours.transfer) == (2, 2, 2)
    check(video_colours.to_rgb(frame), ("", "", "", 6))


def test_ten_bits_and_transparency_are_reported(tmp_path):
    path = write_source(tmp_path / "in.mkv", "libx264", "yuv420p10le", 1, False)
    assert any("more than 8 bits" in note for note in plan_restoration(path, tmp_path / "out.mkv", 16).notes)
    path = write_source(tmp_path / "alpha.mkv", "ffv1", "yuva420p", 1, False)
    assert any("transparency" in note for note in plan_restoration(path, tmp_path / "out.mkv", 16).notes)
