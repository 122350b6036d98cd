"""Videos are restored in batches with timing, sound and metadata preserved; a stopped run resumes."""

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
from jaxdeblur.restoration.video.encoding import decoding_times
from jaxdeblur.restoration.video.job import plan_restoration
from jaxdeblur.restoration.video.restore import SEGMENT_FRAMES, restore_video
from jaxdeblur.restoration.video.segments import open_progress, progress_folder
from jaxdeblur.videos import reader as video_reader
from tests.helpers.videos import av, blocks, grey, read_video, restore, stop_after, write_video

STARTS = (0, 1, 2, 5, 6, 9, 10)  # of frames, in 1/25 s: not evenly spaced


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_restored_and_timing_and_sound_kept(tmp_path, suffix):
    source = write_video(tmp_path / f"video{suffix}", [grey(20 * i) for i in range(7)], starts=STARTS)
    batches = []

    def brighter(frames):
        batches.append(frames.shape)
        return frames + 10

    assert restore(source, tmp_path / f"out{suffix}", brighter) == (True, [0, 3, 6, 7])
    assert batches == [(3, 48, 64, 3)] * 3  # the last one is padded, so one program serves all
    before, after = read_video(source), read_video(tmp_path / f"out{suffix}")
    assert after[1] == pytest.approx(before[1])
    assert after[1][3] - after[1][2] == pytest.approx(3 / 25)
    assert len(before[2]) > 10
    assert [data for _, data in after[2]] == [data for _, data in before[2]]
    assert np.abs(after[0].astype(int) - before[0] - 10).max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, f"out{suffix}"])


@pytest.mark.parametrize("quality", [0, 20])  # without and with frames that are decoded out of display order
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
def test_segments_are_joined_seamlessly(tmp_path, suffix, quality):
    """Three segments with unevenly spaced frames."""
    frames = blocks(2 * SEGMENT_FRAMES + 5)
    starts = np.cumsum(np.random.default_rng(1).integers(1, 9, len(frames))).tolist()
    source = write_video(tmp_path / "video.mkv", frames, starts=starts, sound=False)
    assert restore(source, tmp_path / f"out{suffix}", quality=quality, batch_size=4)[0]
    frames, times, _ = read_video(tmp_path / f"out{suffix}")
    assert times == pytest.approx([start / 25 for start in starts], abs=1e-3)
    # Far less than the mean difference of two source frames, 85.
    assert np.abs(frames[:, 4::8, 4::8].astype(int) - np.stack(frames)[:, 4::8, 4::8]).mean() < 4


@pytest.mark.parametrize(
    ("times", "display_indices", "expected"),
    [
        ([3, 4, 5], [0, 1, 2], [3, 4, 5]),
        ([0, 10, 11, 12, 30], [0, 3, 1, 2, 4], [-10, 0, 10, 11, 12]),  # one frame is decoded one position late
        ([0, 10, 11, 12, 30], [0, 4, 2, 1, 3], [-11, -1, 0, 10, 11]),  # two positions
    ],
)
def test_decoding_times_are_not_after_display_times(times, display_indices, expected):
    decoded = decoding_times(np.array(times), np.array(display_indices))
    assert decoded.tolist() == expected
    assert (decoded <= np.array(times)[display_indices]).all()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_title_and_chapters_are_kept(tmp_path, suffix):
    source = write_video(tmp_path / "in.mkv", blocks(25))
    chapters = [
        {"id": i, "start": 400 * i, "end": 400 * i + 400, "time_base": Fraction(1, 1000), "metadata": {"title": name}}
        for i, name in enumerate(("Morning", "Evening"))
    ]
    with av.open(str(source)) as container, av.open(str(tmp_path / "video.mkv"), "w") as output:
        output.metadata["title"] = "A day"
        output.set_chapters(chapters)
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert restore(tmp_path / "video.mkv", tmp_path / f"out{suffix}")[0]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.metadata["title"] == "A day"
        titles = [
            (float(chapter["start"] * chapter["time_base"]), chapter["metadata"]["title"])
            for chapter in container.chapters()
        ]
    assert titles == [(0.0, "Morning"), (pytest.approx(0.4), "Evening")]


def test_a_stopped_run_resumes_with_an_identical_result(tmp_path):
    # x264 is not deterministic for much smaller frames.
    source = write_video(tmp_path / "video.mp4", blocks(3 * SEGMENT_FRAMES + 7, 96, 128))
    restore(source, tmp_path / "whole.mp4", quality=20, batch_size=8)
    batches = 7  # per segment: no batch spans two
    how = {"quality": 20, "batch_size": 7}
    assert not restore(source, tmp_path / "out.mp4", stop=stop_after(2 * batches + 1), **how)[0]
    assert not (tmp_path / "out.mp4").exists()
    assert not restore(source, tmp_path / "out.mp4", stop=stop_after(batches), **how)[0]
    restored = []
    result = restore(source, tmp_path / "out.mp4", lambda frames: restored.append(len(frames)) or frames, **how)
    assert result == (True, [3 * SEGMENT_FRAMES, 3 * SEGMENT_FRAMES + 7])
    assert restored == [7]
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "video.mp4", "whole.mp4"]


def test_a_killed_run_resumes_with_an_identical_result(tmp_path):
    source = write_video(tmp_path / "video.mp4", blocks(2 * SEGMENT_FRAMES + 9))
    restore(source, tmp_path / "whole.mp4", batch_size=8)
    program = f"""
        import time
        from pathlib import Path
        from jaxdeblur.restoration.video.job import plan_restoration
        from jaxdeblur.restoration.video.restore import restore_video
        job = plan_restoration(Path({str(source)!r}), Path({str(tmp_path / "out.mp4")!r}), 0)
        def restore(frames):
            time.sleep(0.05)
            return frames
        how = {{"settings": {{"weights": "some"}}, "progress": lambda done: None, "stop": lambda: False}}
        restore_video(job, restore, batch_size=8, **how)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    first = progress_folder(tmp_path / "out.mp4") / "000000.safetensors"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    completed, counts = restore(source, tmp_path / "out.mp4", batch_size=8)
    assert completed
    assert counts[0] >= SEGMENT_FRAMES
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_progress_of_another_source_or_settings_is_not_resumed(tmp_path):
    source, target = write_video(tmp_path / "video.mp4", blocks(SEGMENT_FRAMES + 1), sound=False), tmp_path / "out.mp4"
    assert not restore(source, target, stop=stop_after(SEGMENT_FRAMES // 3))[0]
    for change in ({"quality": 1}, {"settings": {"weights": "others"}}):
        with pytest.raises(InputError) as error:
            restore(source, target, **change)
        assert error.value.code == "video-progress-differs"
    os.utime(source, (1, 1))  # the same content with another modification time
    assert restore(source, target, stop=lambda: True)[1] == [SEGMENT_FRAMES]
    write_video(source, blocks(SEGMENT_FRAMES + 1, seed=2), sound=False)
    with pytest.raises(InputError) as error:
        restore(source, target)
    assert error.value.code == "video-progress-differs"
    assert restore(source, target, overwrite=True)[1][:2] == [0, 3]


def test_a_corrupt_segment_is_restored_again(tmp_path):
    source, target = write_video(tmp_path / "video.mp4", blocks(3 * SEGMENT_FRAMES), sound=False), tmp_path / "out.mp4"
    assert not restore(source, target, stop=stop_after(SEGMENT_FRAMES - 1))[0]
    second = progress_folder(target) / "000001.safetensors"
    second.write_bytes(second.read_bytes()[:1000])
    assert restore(source, target)[1][0] == SEGMENT_FRAMES
    assert len(read_video(target)[0]) == 3 * SEGMENT_FRAMES


def test_two_processes_cannot_write_the_same_result(tmp_path):
    source, target = write_video(tmp_path / "video.mp4", blocks(2), sound=False), tmp_path / "out.mp4"
    with open_progress(source, target, {}, overwrite=False), pytest.raises(InputError) as error:
        restore(source, target)
    assert error.value.code == "video-busy"
    assert restore(source, target)[0]


def test_names_of_255_bytes_can_be_written(tmp_path):
    source = write_video(tmp_path / "video.mp4", blocks(2), sound=False)
    target = tmp_path / ("ö" * 125 + "x.mp4")
    assert len(os.fsencode(target.name)) == 255
    assert restore(source, target)[0]
    assert len(read_video(target)[0]) == 2


def test_a_stop_or_failure_before_the_first_segment_leaves_no_files(tmp_path):
    source = write_video(tmp_path / "video.mp4", [grey(9 * i) for i in range(12)])
    assert restore(source, tmp_path / "out.mp4", stop=stop_after(1)) == (False, [0, 3])
    with pytest.raises(ZeroDivisionError):
        restore(source, tmp_path / "out.mp4", lambda frames: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_corrupt_frames_are_reported(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
    data = write_video(tmp_path / "video.mp4", list(noise)).read_bytes()
    at = len(data) // 3
    (tmp_path / "corrupt.mp4").write_bytes(data[:at] + bytes(2000) + data[at + 2000 :])
    job = plan_restoration(tmp_path / "corrupt.mp4", tmp_path / "out.mp4", 16)
    how = {"settings": {}, "batch_size": 4, "progress": lambda frames: None, "stop": lambda: False}
    assert restore_video(job, lambda frames: frames, **how)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 9
    assert job.notes[-1] == "1 of its 9 frames are corrupt, and were used as far as decoded"


def test_frames_without_usable_times_follow_the_previous_ones(tmp_path, monkeypatch):
    """Times that are missing or jump back, as written by faulty recorders."""
    source = write_video(tmp_path / "video.mkv", blocks(6), sound=False)
    decoded_frames = video_reader._decoded_frames

    def damage_times(*arguments):
        for i, frame in enumerate(decoded_frames(*arguments)):
            if i in (1, 3):
                frame.pts = None if i == 1 else 0
            yield frame

    monkeypatch.setattr(video_reader, "_decoded_frames", damage_times)
    assert restore(source, tmp_path / "out.mkv")[0]
    times = read_video(tmp_path / "out.mkv")[1]
    assert times == pytest.approx([0, 0.04, 0.08, 0.081, 0.16, 0.2])


def test_a_full_disk_is_reported(tmp_path, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (SEGMENT_FRAMES + 20, 96, 128, 3), np.uint8)  # 37 KB a frame
    source = write_video(tmp_path / "video.mp4", list(noise))
    with pytest.raises(OSError, match="No space left on device"):
        restore(source, small_disk / "out.mp4", batch_size=4)
    assert not (small_disk / "out.mp4").exists()


def test_a_full_disk_while_joining_keeps_the_segments(tmp_path, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (32, 96, 128, 3), np.uint8)
    source = write_video(tmp_path / "video.mp4", list(noise))
    with pytest.raises(OSError, match=r"No space left on device.*out\.mp4"):
        restore(source, small_disk / "out.mp4", batch_size=4)
    assert [path.name for path in small_disk.iterdir()] == [progress_folder(Path("out.mp4")).name]
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    assert restore(source, small_disk / "out.mp4", batch_size=4) == (True, [32])
