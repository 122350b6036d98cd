"""Videos: frames go through in batches; timing, sound, rotation and colours stay; the unfinished leaves nothing."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from jaxdeblur.clips import open_clip, restore_clip
from jaxdeblur.errors import InputError

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")
STARTS = (0, 1, 2, 5, 6, 9, 10)  # of frames, in 1/25 s: not evenly spaced


def gray(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def write_clip(path, pictures, *, starts=None, sound=True, encoder="libx264", colorspace=None):
    """Write a clip without loss, of frames with the given starts, and a second of a 440 Hz tone."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(encoder, rate=25, options={"crf": "0"} if encoder == "libx264" else {})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv444p"
        video.codec_context.time_base = Fraction(1, 25)
        if colorspace:
            video.codec_context.colorspace = colorspace
        if sound:
            audio = output.add_stream("aac", rate=16000)
            audio.codec_context.layout = "mono"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
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


def read_clip(path):
    """Return frames as stored, their times in seconds, and the packets of sound."""
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


def restore(source, target, function=lambda frames: frames, *, batch_size=3, quality=0, stop=lambda: False):
    seen = []
    how = {"batch_size": batch_size, "quality": quality, "progress": seen.append, "stop": stop}
    whole = restore_clip(open_clip(source), target, function, **how)
    return whole, seen


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_changed_and_timing_and_sound_stay(tmp_path, suffix):
    source = write_clip(tmp_path / f"clip{suffix}", [gray(20 * i) for i in range(7)], starts=STARTS)
    batches = []

    def brighter(frames):
        batches.append(frames.shape)
        return frames + 10

    assert restore(source, tmp_path / f"out{suffix}", brighter) == (True, [3, 3, 1])
    assert batches == [(3, 48, 64, 3)] * 3  # the last one is filled up: one program serves all
    before, after = read_clip(source), read_clip(tmp_path / f"out{suffix}")
    assert after[1] == pytest.approx(before[1])
    assert after[1][3] - after[1][2] == pytest.approx(3 / 25)
    assert len(before[2]) > 10
    assert [data for _, data in after[2]] == [data for _, data in before[2]]
    assert np.abs(after[0].astype(int) - before[0] - 10).max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, f"out{suffix}"])


def test_a_clip_without_sound_of_odd_sides_and_another_encoder(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", [gray(100, 45, 51)] * 4, sound=False)
    assert restore(source, tmp_path / "out.webm", quality=16)[0]
    frames, times, packets = read_clip(tmp_path / "out.webm")
    assert frames.shape == (4, 45, 51, 3)
    assert (len(times), packets) == (4, [])
    assert np.abs(frames.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("colorspace", [1, 5])  # BT.709 and BT.601, which code a red differently
def test_colours_stay_whatever_matrix_codes_them(tmp_path, colorspace):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 30, 40), (20, 60, 220)
    source = write_clip(tmp_path / "clip.mp4", [picture] * 3, colorspace=colorspace)
    stored = read_clip(source)[0]
    assert np.abs(stored.astype(int) - picture).max() <= 4
    seen = []
    assert restore(source, tmp_path / "out.mp4", lambda frames: seen.append(frames.copy()) or frames)[0]
    np.testing.assert_array_equal(seen[0], stored)
    assert np.abs(read_clip(tmp_path / "out.mp4")[0].astype(int) - picture).max() <= 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert int(container.streams.video[0].codec_context.colorspace) == colorspace


def test_a_turned_clip_is_restored_and_written_upright(tmp_path):
    """As phones take them: the file says how players turn it. Here a quarter to the right."""
    picture = gray(50)
    picture[:16] = 200  # the upper third is bright; turned to the right, the right third
    source = write_clip(tmp_path / "clip.mp4", [picture] * 2, sound=False)
    data = source.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    source.write_bytes(data[:at] + turned + data[at + len(turned) :])
    assert restore(source, tmp_path / "out.mp4")[0]
    frames = read_clip(tmp_path / "out.mp4")[0]
    assert frames.shape == (2, 64, 48, 3)
    assert frames[:, :, 40:].mean() > 190
    assert frames[:, :, :24].mean() < 60


def test_a_stop_and_a_failure_leave_nothing(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", [gray(9 * i) for i in range(12)])
    stops = iter([False, True, True, True])
    assert restore(source, tmp_path / "out.mp4", stop=lambda: next(stops)) == (False, [3])
    with pytest.raises(ZeroDivisionError):
        restore(source, tmp_path / "out.mp4", lambda frames: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_is_no_video_or_is_cut_short_is_told(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4", "absent.mp4"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read as a video"):
            open_clip(tmp_path / name)
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    with pytest.raises(InputError, match=r"sound.mp4: holds no pictures"):
        open_clip(tmp_path / "sound.mp4")


def test_damaged_frames_are_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
    data = write_clip(tmp_path / "clip.mp4", list(noise)).read_bytes()
    at = len(data) // 3
    (tmp_path / "damaged.mp4").write_bytes(data[:at] + bytes(2000) + data[at + 2000 :])
    clip = open_clip(tmp_path / "damaged.mp4")
    how = {"batch_size": 4, "quality": 16, "progress": lambda frames: None, "stop": lambda: False}
    assert restore_clip(clip, tmp_path / "out.mp4", lambda frames: frames, **how)
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 9
    assert clip.notes == ["1 of its 9 frames are damaged, and were restored as far as they can be read"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (60, 96, 128, 3), np.uint8)  # 37 KB a frame and more
    source = write_clip(tmp_path / "clip.mp4", list(noise))
    with pytest.raises(OSError, match=r"No space left on device.*out\.mp4"):
        restore(source, small_disk / "out.mp4")
    assert not list(small_disk.iterdir())
