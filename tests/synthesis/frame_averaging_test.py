"""Averaging windows of frames: hand-computed means, GOPRO_Large's files, videos."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from jaxdeblur.synthesis import frame_averaging
from tests.helpers.frame_videos import CLIP, write_video


def grey(*values):
    return [np.full((2, 3, 3), value, np.uint8) for value in values]


def test_stored_values_are_averaged_and_rounded():
    assert (frame_averaging.average_frames(grey(0, 1, 255))["blur"] == 85).all()  # 85.33
    assert (frame_averaging.average_frames(grey(1, 1, 255))["blur"] == 86).all()  # 85.67: rounded, not cut


def test_light_is_averaged_under_the_gamma_curve():
    """(0 + 0 + 1) / 3 of the light is 255 * (1/3)^(1/2.2) = 154.77 stored; 100 and twice 200 are 174.33."""
    assert (frame_averaging.average_frames(grey(0, 255, 0))["blur_gamma"] == 155).all()
    assert (frame_averaging.average_frames(grey(100, 200, 200))["blur_gamma"] == 174).all()


def test_sharp_is_the_middle_frame():
    images = frame_averaging.average_frames(grey(1, 2, 3, 4, 5), variants=("blur",))
    assert images.keys() == {"sharp", "blur"}
    assert (images["sharp"] == 3).all()


def test_real_frames_give_gopros_published_files(real_gopro):
    """Eleven raw frames give the published images exactly."""
    raw = Path(os.environ.get("JAXDEBLUR_GOPRO_RAW", real_gopro.parent / "gopro_raw_240fps")) / "GOPR0477_11_00"
    if not raw.is_dir():
        pytest.skip(f"{raw} holds no raw frames")
    windows = list(frame_averaging.take_windows(frame_averaging.read_frames(sorted(raw.glob("*.png"))), 11, 11))
    assert len(windows) == 1
    images = frame_averaging.average_frames(windows[0])
    for name in ("sharp", "blur_gamma", "blur"):
        published = read_image(real_gopro / "train" / "GOPR0477_11_00" / name / "000001.png")
        np.testing.assert_array_equal(images[name], published)


@pytest.mark.parametrize(
    ("length", "stride", "expected"),
    [
        (3, 3, [(0, 1, 2), (3, 4, 5)]),
        (3, 1, [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6)]),
        (1, 3, [(0,), (3,), (6,)]),
        (7, 7, [(0, 1, 2, 3, 4, 5, 6)]),
        (9, 9, []),
    ],
)
def test_windows_have_the_given_length_and_stride(length, stride, expected):
    windows = frame_averaging.take_windows(iter(grey(*range(7))), length, stride)
    assert [tuple(int(frame[0, 0, 0]) for frame in window) for window in windows] == expected


def test_windows_are_read_lazily():
    """The next window is read on demand."""
    read = []
    windows = frame_averaging.take_windows((read.append(n) or frame for n, frame in enumerate(grey(*range(9)))), 3, 3)
    next(windows)
    assert read == [0, 1, 2]


def test_frames_of_different_sizes_are_refused():
    odd = [*grey(0, 1), np.zeros((3, 2, 3), np.uint8)]
    with pytest.raises(InputError, match="frame 3 has 2x3 pixels, but earlier ones 3x2"):
        list(frame_averaging.take_windows(odd, 3, 3))


def test_frames_are_read_in_the_order_given(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("b", "a")]
    for path, frame in zip(paths, CLIP, strict=False):
        Image.fromarray(frame).save(path)
    for read, frame in zip(frame_averaging.read_frames(paths), CLIP[:2], strict=True):
        np.testing.assert_array_equal(read, frame)


def test_videos_are_read_frame_by_frame(tmp_path):
    write_video(tmp_path / "clip.mkv")
    read = list(frame_averaging.read_frames(tmp_path / "clip.mkv"))
    np.testing.assert_array_equal(read, CLIP)


def test_video_frames_are_full_range(tmp_path):
    """Luma of 16 and 235 is black and white in limited range, which swscale ignores in grey video."""
    av = pytest.importorskip("av")
    levels = np.repeat(np.array([16, 235], np.uint8), 16)
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "gray"
        stream.codec_context.color_range = 1  # limited
        frame = av.VideoFrame.from_ndarray(np.tile(levels, (32, 1)), format="gray")
        frame.color_range = 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (frame,) = frame_averaging.read_frames(tmp_path / "clip.mkv")
    np.testing.assert_array_equal(frame[0, :, 0], np.repeat([0, 255], 16))


def test_video_frames_are_upright(tmp_path):
    av = pytest.importorskip("av")
    image = np.full((32, 64, 3), 40, np.uint8)
    image[:, 32:] = 200
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "rgb24"
        one = 1 << 16
        stream.set_display_matrix([0, one, 0, -one, 0, 0, 0, 0, 1 << 30])  # a quarter turn
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = frame_averaging.read_frames(tmp_path / "clip.mp4")
    np.testing.assert_array_equal(frame, image.swapaxes(0, 1))


def test_corrupt_videos_are_refused(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"clip\.mp4: cannot be read as a video"):
        list(frame_averaging.read_frames(tmp_path / "clip.mp4"))


def test_missing_pyav_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"jaxdeblur\[video\]") as error:
        next(frame_averaging.read_frames(tmp_path / "clip.mp4"))
    assert error.value.code == "missing-extra"
