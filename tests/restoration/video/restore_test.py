"""Restoring a video: frames go through in batches, timing and the rest stay, and a run that was stopped resumes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.video import restore as clips
from jaxdeblur.restoration.video.encoding import decoding_times
from jaxdeblur.restoration.video.restore import SEGMENT_FRAMES, plan_clip, restore_clip
from jaxdeblur.restoration.video.segments import open_progress, progress_folder

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")
STARTS = (0, 1, 2, 5, 6, 9, 10)  # of frames, in 1/25 s: not evenly spaced


def gray(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def blocks(count, height=48, width=64, seed=0):
    """Return different pictures of 8x8 blocks."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return list(small.repeat(8, axis=1).repeat(8, axis=2))


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


def restore(source, target, function=lambda frames: frames, *, quality=0, settings=None, **options):
    """Restore a clip; return whether it was completed, and what `progress` was called with."""
    seen = []
    options = {"batch_size": 3, "stop": lambda: False} | options
    job = plan_clip(source, target, quality)
    settings = settings or {"weights": "some"}
    whole = restore_clip(job, function, settings=settings, progress=seen.append, **options)
    return whole, seen


def stop_after(batches):
    """Return what asks for a stop once so many batches were restored."""
    answers = iter([False] * batches)
    return lambda: next(answers, True)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_changed_and_timing_and_sound_stay(tmp_path, suffix):
    source = write_clip(tmp_path / f"clip{suffix}", [gray(20 * i) for i in range(7)], starts=STARTS)
    batches = []

    def brighter(frames):
        batches.append(frames.shape)
        return frames + 10

    assert restore(source, tmp_path / f"out{suffix}", brighter) == (True, [0, 3, 6, 7])
    assert batches == [(3, 48, 64, 3)] * 3  # the last one is filled up: one program serves all
    before, after = read_clip(source), read_clip(tmp_path / f"out{suffix}")
    assert after[1] == pytest.approx(before[1])
    assert after[1][3] - after[1][2] == pytest.approx(3 / 25)
    assert len(before[2]) > 10
    assert [data for _, data in after[2]] == [data for _, data in before[2]]
    assert np.abs(after[0].astype(int) - before[0] - 10).max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, f"out{suffix}"])


@pytest.mark.parametrize("quality", [0, 20])  # without and with frames that are decoded out of order
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
def test_segments_are_joined_without_a_seam(tmp_path, suffix, quality):
    """Three segments, of frames at uneven times."""
    pictures = blocks(2 * SEGMENT_FRAMES + 5)
    starts = np.cumsum(np.random.default_rng(1).integers(1, 9, len(pictures))).tolist()
    source = write_clip(tmp_path / "clip.mkv", pictures, starts=starts, sound=False)
    assert restore(source, tmp_path / f"out{suffix}", quality=quality, batch_size=4)[0]
    frames, times, _ = read_clip(tmp_path / f"out{suffix}")
    assert times == pytest.approx([start / 25 for start in starts], abs=1e-3)
    # Far less than the 85 between two of the pictures.
    assert np.abs(frames[:, 4::8, 4::8].astype(int) - np.stack(pictures)[:, 4::8, 4::8]).mean() < 4


@pytest.mark.parametrize(
    ("times", "places", "expected"),
    [
        ([3, 4, 5], [0, 1, 2], [3, 4, 5]),
        ([0, 10, 11, 12, 30], [0, 3, 1, 2, 4], [-10, 0, 10, 11, 12]),  # one frame is decoded a place late
        ([0, 10, 11, 12, 30], [0, 4, 2, 1, 3], [-11, -1, 0, 10, 11]),  # two places
    ],
)
def test_decoding_times_are_ahead_of_the_times_of_showing(times, places, expected):
    found = decoding_times(np.array(times), np.array(places))
    assert found.tolist() == expected
    assert (found <= np.array(times)[places]).all()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_title_and_chapters_stay(tmp_path, suffix):
    source = write_clip(tmp_path / "in.mkv", blocks(25))
    chapters = [
        {"id": i, "start": 400 * i, "end": 400 * i + 400, "time_base": Fraction(1, 1000), "metadata": {"title": name}}
        for i, name in enumerate(("Morning", "Evening"))
    ]
    with av.open(str(source)) as container, av.open(str(tmp_path / "clip.mkv"), "w") as output:
        output.metadata["title"] = "A day"
        output.set_chapters(chapters)
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert restore(tmp_path / "clip.mkv", tmp_path / f"out{suffix}")[0]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.metadata["title"] == "A day"
        found = [
            (float(chapter["start"] * chapter["time_base"]), chapter["metadata"]["title"])
            for chapter in container.chapters()
        ]
    assert found == [(0.0, "Morning"), (pytest.approx(0.4), "Evening")]


def test_a_stopped_run_resumes_and_gives_the_same_file(tmp_path):
    # x264 encodes much smaller pictures a little differently from time to time.
    source = write_clip(tmp_path / "clip.mp4", blocks(3 * SEGMENT_FRAMES + 7, 96, 128))
    restore(source, tmp_path / "whole.mp4", quality=20, batch_size=8)
    batches = 7  # for each segment: no batch reaches over its end
    how = {"quality": 20, "batch_size": 7}
    assert not restore(source, tmp_path / "out.mp4", stop=stop_after(2 * batches + 1), **how)[0]
    assert not (tmp_path / "out.mp4").exists()
    assert not restore(source, tmp_path / "out.mp4", stop=stop_after(batches), **how)[0]
    restored = []
    result = restore(source, tmp_path / "out.mp4", lambda frames: restored.append(len(frames)) or frames, **how)
    assert result == (True, [3 * SEGMENT_FRAMES, 3 * SEGMENT_FRAMES + 7])
    assert restored == [7]
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4", "whole.mp4"]


def test_a_killed_run_resumes_and_gives_the_same_file(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", blocks(2 * SEGMENT_FRAMES + 9))
    restore(source, tmp_path / "whole.mp4", batch_size=8)
    program = f"""
        import time
        from pathlib import Path
        from jaxdeblur.restoration.video.restore import plan_clip, restore_clip
        job = plan_clip(Path({str(source)!r}), Path({str(tmp_path / "out.mp4")!r}), 0)
        def restore(frames):
            time.sleep(0.05)
            return frames
        how = {{"settings": {{"weights": "some"}}, "progress": lambda done: None, "stop": lambda: False}}
        restore_clip(job, restore, batch_size=8, **how)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    first = progress_folder(tmp_path / "out.mp4") / "000000.safetensors"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole, seen = restore(source, tmp_path / "out.mp4", batch_size=8)
    assert whole
    assert seen[0] >= SEGMENT_FRAMES
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_progress_of_another_source_or_settings_is_not_continued(tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", blocks(SEGMENT_FRAMES + 1), sound=False), tmp_path / "out.mp4"
    assert not restore(source, target, stop=stop_after(SEGMENT_FRAMES // 3))[0]
    for change in ({"quality": 1}, {"settings": {"weights": "others"}}):
        with pytest.raises(InputError) as error:
            restore(source, target, **change)
        assert error.value.code == "video-progress-differs"
    os.utime(source, (1, 1))  # the same content at another time is the same video
    assert restore(source, target, stop=lambda: True)[1] == [SEGMENT_FRAMES]
    write_clip(source, blocks(SEGMENT_FRAMES + 1, seed=2), sound=False)
    with pytest.raises(InputError) as error:
        restore(source, target)
    assert error.value.code == "video-progress-differs"
    assert restore(source, target, overwrite=True)[1][:2] == [0, 3]


def test_a_damaged_segment_is_restored_again(tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", blocks(3 * SEGMENT_FRAMES), sound=False), tmp_path / "out.mp4"
    assert not restore(source, target, stop=stop_after(SEGMENT_FRAMES - 1))[0]
    second = progress_folder(target) / "000001.safetensors"
    second.write_bytes(second.read_bytes()[:1000])
    assert restore(source, target)[1][0] == SEGMENT_FRAMES
    assert len(read_clip(target)[0]) == 3 * SEGMENT_FRAMES


def test_two_processes_do_not_write_one_result(tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", blocks(2), sound=False), tmp_path / "out.mp4"
    with open_progress(source, target, {}, overwrite=False), pytest.raises(InputError) as error:
        restore(source, target)
    assert error.value.code == "video-busy"
    assert restore(source, target)[0]


def test_names_of_255_bytes_can_be_written(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", blocks(2), sound=False)
    target = tmp_path / ("ö" * 125 + "x.mp4")
    assert len(os.fsencode(target.name)) == 255
    assert restore(source, target)[0]
    assert len(read_clip(target)[0]) == 2


def test_a_stop_or_failure_before_the_first_segment_leaves_nothing(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", [gray(9 * i) for i in range(12)])
    assert restore(source, tmp_path / "out.mp4", stop=stop_after(1)) == (False, [0, 3])
    with pytest.raises(ZeroDivisionError):
        restore(source, tmp_path / "out.mp4", lambda frames: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_damaged_frames_are_reported(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
    data = write_clip(tmp_path / "clip.mp4", list(noise)).read_bytes()
    at = len(data) // 3
    (tmp_path / "damaged.mp4").write_bytes(data[:at] + bytes(2000) + data[at + 2000 :])
    job = plan_clip(tmp_path / "damaged.mp4", tmp_path / "out.mp4", 16)
    how = {"settings": {}, "batch_size": 4, "progress": lambda frames: None, "stop": lambda: False}
    assert restore_clip(job, lambda frames: frames, **how)
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 9
    assert job.notes[-1] == "1 of its 9 frames are damaged, and were restored as far as decoded"


def test_frames_without_usable_times_follow_each_other(tmp_path, monkeypatch):
    """Times that are missing or go back, as broken recorders write them."""
    source = write_clip(tmp_path / "clip.mkv", blocks(6), sound=False)
    decoded = clips.read_pictures.__globals__["_decoded_frames"]

    def damaged(*arguments):
        for i, frame in enumerate(decoded(*arguments)):
            if i in (1, 3):
                frame.pts = None if i == 1 else 0
            yield frame

    monkeypatch.setitem(clips.read_pictures.__globals__, "_decoded_frames", damaged)
    assert restore(source, tmp_path / "out.mkv")[0]
    times = read_clip(tmp_path / "out.mkv")[1]
    assert times == pytest.approx([0, 0.04, 0.08, 0.081, 0.16, 0.2])


def test_a_full_disk_is_reported_and_progress_is_kept(tmp_path, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (SEGMENT_FRAMES + 20, 96, 128, 3), np.uint8)  # 37 KB a frame
    source = write_clip(tmp_path / "clip.mp4", list(noise))
    with pytest.raises(OSError, match="No space left on device"):
        restore(source, small_disk / "out.mp4", batch_size=4)
    assert not (small_disk / "out.mp4").exists()


def test_a_full_disk_while_joining_keeps_the_segments(tmp_path, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (32, 96, 128, 3), np.uint8)
    source = write_clip(tmp_path / "clip.mp4", list(noise))
    with pytest.raises(OSError, match=r"No space left on device.*out\.mp4"):
        restore(source, small_disk / "out.mp4", batch_size=4)
    assert [path.name for path in small_disk.iterdir()] == [progress_folder(Path("out.mp4")).name]
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    assert restore(source, small_disk / "out.mp4", batch_size=4) == (True, [32])
