"""Orientation, pixel aspect ratio, interlacing and odd sides of videos; unsupported files are refused."""

import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video.job import plan_restoration
from jaxdeblur.videos.reader import open_video
from tests.helpers.videos import av, grey, read_video, restore, write_video

ONE = 1 << 16
# The linear part (a, b, c, d) of display matrices: all combinations of flips and quarter turns.
MATRICES = {
    "none": (1, 0, 0, 1),
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "half turn": (-1, 0, 0, -1),
    "quarter turn right": (0, 1, -1, 0),
    "quarter turn left": (0, -1, 1, 0),
    "transpose": (0, 1, 1, 0),
    "transpose other diagonal": (0, -1, -1, 0),
}


def corners():
    """Return an image with four different corners, (32, 48, 3)."""
    image = grey(128, 32, 48)
    image[:16, :24], image[:16, 24:], image[16:, :24], image[16:, 24:] = 20, 90, 160, 230
    return image


def displayed(image, matrix):
    """Apply a display matrix: pixel (x, y) is displayed at (a x + c y, b x + d y), up to a translation."""
    a, b, c, d = matrix
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    columns, rows = a * xs + c * ys, b * xs + d * ys
    columns, rows = columns - columns.min(), rows - rows.min()
    result = np.zeros((rows.max() + 1, columns.max() + 1, 3), np.uint8)
    result[rows, columns] = image
    return result


def write_stream(path, images, *, encoder="libx264", aspect=None, matrix=None, field_order=None):
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=25, options={"crf": "0"} if encoder == "libx264" else {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            a, b, c, d = (ONE * entry for entry in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if field_order:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            frame = mark_fields(frame.reformat(format="yuv420p"), field_order) if field_order else frame
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def mark_fields(frame, order):
    """Return a frame marked as interlaced, top (tff) or bottom (bff) field first."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("setfield", mode=order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_become_upright(tmp_path, name, suffix):
    source = write_stream(tmp_path / f"in{suffix}", [corners()] * 2, matrix=MATRICES[name])
    inputs = []
    assert restore(source, tmp_path / f"out{suffix}", lambda frames: inputs.append(frames) or frames, batch_size=2)[0]
    expected = displayed(corners(), MATRICES[name])
    assert np.abs(inputs[0][0].astype(int) - expected).max() <= 2
    assert np.abs(read_video(tmp_path / f"out{suffix}")[0][0].astype(int) - expected).max() <= 2
    assert open_video(tmp_path / f"out{suffix}").orientation == open_video(write_stream(source, [grey(0)])).orientation


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg command")
@pytest.mark.parametrize("name", MATRICES)
def test_ffmpeg_displays_source_and_result_alike(tmp_path, name):
    source = write_stream(tmp_path / "in.mp4", [corners()] * 2, matrix=MATRICES[name])
    assert restore(source, tmp_path / "out.mp4", batch_size=2)[0]
    expected = displayed(corners(), MATRICES[name])
    for path in (source, tmp_path / "out.mp4"):
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        data = subprocess.run([*command, "-"], capture_output=True, check=True).stdout
        assert np.abs(np.frombuffer(data, np.uint8).reshape(expected.shape).astype(int) - expected).max() <= 3


def test_other_rotations_are_refused(tmp_path):
    source = write_stream(tmp_path / "in.mp4", [corners()], matrix=(0.8, 0.6, -0.6, 0.8))
    with pytest.raises(InputError) as error:
        plan_restoration(source, tmp_path / "out.mp4", 16)
    assert error.value.code == "video-orientation"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_pixel_aspect_ratio_is_kept(tmp_path, suffix):
    """PAL DVD, 16:9."""
    source = write_stream(tmp_path / f"in{suffix}", [corners()] * 2, aspect=Fraction(64, 45))
    assert restore(source, tmp_path / f"out{suffix}", batch_size=2)[0]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
        assert (container.streams.video[0].height, container.streams.video[0].width) == (32, 48)


def test_the_pixel_aspect_ratio_is_rotated_with_the_frames(tmp_path):
    source = write_stream(tmp_path / "in.mp4", [corners()], aspect=Fraction(4, 3), matrix=(0, 1, -1, 0))
    assert restore(source, tmp_path / "out.mp4", batch_size=1)[0]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(3, 4)


def test_webm_is_resized_to_square_pixels(tmp_path):
    source = write_stream(tmp_path / "in.mp4", [corners()] * 2, aspect=Fraction(4, 3))
    assert any("square pixels, 64x32" in note for note in plan_restoration(source, tmp_path / "out.webm", 16).notes)
    assert restore(source, tmp_path / "out.webm", batch_size=2)[0]
    frames = read_video(tmp_path / "out.webm")[0]
    assert frames.shape == (2, 32, 64, 3)
    assert np.abs(frames[0, 4:12, 4:28].astype(int) - 20).max() <= 3
    assert np.abs(frames[0, 20:28, 36:60].astype(int) - 230).max() <= 3


def moving_bar(time, height=64, width=96):
    """Return a smooth bright bar that moves 6 pixels per field."""
    center = 12 + 6 * time
    bar = 40 + 160 * np.exp(-(((np.arange(width) - center) / 5) ** 2))
    return np.broadcast_to(bar[None, :, None], (height, width, 3)).round().astype(np.uint8)


def interlace(frame, first=0):
    """Return an interlaced frame of the bar; rows `first`, `first` + 2, ... are the earlier field."""
    image = moving_bar(2 * frame + 1).copy()
    image[first::2] = moving_bar(2 * frame)[first::2]
    return image


def combing(image):
    """Return the mean absolute difference between rows and the mean of their neighbours."""
    rows = image[..., 0].astype(float)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


@pytest.mark.parametrize(("field_order", "first"), [("tff", 0), ("bff", 1)])
def test_interlaced_frames_become_progressive(tmp_path, field_order, first):
    images = [interlace(i, first) for i in range(6)]
    source = write_stream(tmp_path / "in.mp4", images, field_order=field_order)
    with av.open(str(source)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    inputs = []
    assert restore(source, tmp_path / "out.mp4", lambda frames: inputs.extend(frames) or frames, batch_size=6)[0]
    assert combing(images[2]) > 10
    for restored, image in zip(inputs, images, strict=True):
        assert combing(restored) < 2
        assert np.abs(restored.astype(int) - image)[first::2].mean() < 2  # the earlier field is unchanged
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert not any(frame.interlaced_frame for frame in frames)
    assert [float(frame.time) for frame in frames] == pytest.approx([i / 25 for i in range(6)])


def test_progressive_frames_are_not_filtered(tmp_path):
    """The same frames, but not marked as interlaced."""
    source = write_stream(tmp_path / "in.mp4", [interlace(i) for i in range(3)])
    inputs = []
    assert restore(source, tmp_path / "out.mp4", lambda frames: inputs.extend(frames) or frames, batch_size=3)[0]
    assert combing(inputs[1]) == pytest.approx(combing(interlace(1)), rel=0.05)


@pytest.mark.parametrize(("suffix", "size"), [(".mp4", (46, 52)), (".mkv", (46, 52)), (".webm", (45, 51))])
def test_odd_sides_are_padded_for_h264_only(tmp_path, suffix, size):
    image = grey(100, 45, 51)
    image[-1], image[:, -1] = 200, 200
    source = write_stream(tmp_path / "in.webm", [image] * 3, encoder="libvpx-vp9")
    notes = plan_restoration(source, tmp_path / f"out{suffix}", 16).notes
    assert any("even sides" in note for note in notes) == (suffix != ".webm")
    assert restore(source, tmp_path / f"out{suffix}")[0]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frames = list(container.decode(video=0))
    assert {frame.format.name for frame in frames} == {"yuv420p"}  # what phones can play
    padded = frames[0].to_ndarray(format="rgb24").astype(int)
    assert padded.shape == (*size, 3)
    stored = read_video(source)[0][0].astype(int)
    assert np.abs(padded[:45, :51] - stored).max() <= 12
    if suffix != ".webm":
        assert np.abs(padded[45, :51] - stored[44]).max() <= 12


def test_full_colour_resolution_is_kept_and_reported(tmp_path):
    source = write_video(tmp_path / "in.mp4", [grey(100)], sound=False)
    assert any("4:4:4" in note for note in plan_restoration(source, tmp_path / "out.mp4", 16).notes)
    assert not plan_restoration(source, tmp_path / "out.webm", 16).notes


def test_files_without_video_are_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4", "absent.mp4"):
        with pytest.raises(InputError, match=name) as error:
            open_video(tmp_path / name)
        assert error.value.code == "video-unreadable"
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    with pytest.raises(InputError) as error:
        open_video(tmp_path / "sound.mp4")
    assert error.value.code == "video-no-pictures"


def test_frames_that_change_size_are_refused_and_leave_no_files(tmp_path):
    """Two concatenated H.264 streams, as MPEG-TS allows."""
    parts = [write_stream(tmp_path / f"{side}.ts", [grey(100, side, 64)] * 60) for side in (48, 64)]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError) as error:
        restore(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert error.value.code == "video-size-changes"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]


def test_cover_art_is_not_a_video(tmp_path):
    with av.open(str(tmp_path / "in.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=16000)
        cover = output.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame.from_ndarray(grey(9, 64, 64), format="rgb24")))
        output.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    with av.open(str(tmp_path / "in.mp4")) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError) as error:
        open_video(tmp_path / "in.mp4")
    assert error.value.code == "video-no-pictures"
