"""The command `video`, with a real network."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxdeblur import video
from jaxdeblur.errors import InputError
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.video.plan import plan_videos
from jaxdeblur.restoration.video.segments import progress_folder
from jaxdeblur.weights.safetensors import write_weights
from tests.helpers.images import smooth_image
from tests.helpers.networks import random_network
from tests.helpers.videos import av, blocks, grey, read_video, write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    write_weights(path, random_network("unet")[1], {"network": "unet"})
    return path


def run(weights, inputs, output, *more):
    """Run the command; return its exit status or message."""
    command = ["--weights", str(weights), "--input", *map(str, inputs), "--output", str(output), *more]
    try:
        video.main(command)
    except SystemExit as stop:
        return stop.code
    return 0


def test_frames_are_restored_by_the_network(weights, tmp_path, capsys):
    source = write_video(tmp_path / "video.mp4", [np.roll(smooth_image(48, 64), 8 * i, 1) for i in range(5)])
    assert run(weights, [source], tmp_path / "out.mp4", "--quality=0", "--batch_size=2") == 0
    stored, times, sound = read_video(source)
    frames, result_times, result_sound = read_video(tmp_path / "out.mp4")
    expected = Restorer(*random_network("unet"))(stored)
    assert np.abs(expected.astype(int) - stored).max() > 20
    assert np.abs(frames.astype(int) - expected).mean() < 2
    assert (result_times, len(result_sound)) == (times, len(sound))
    assert "5 frames restored" in capsys.readouterr().err
    assert "exists; add --overwrite" in run(weights, [source], tmp_path / "out.mp4")


def test_a_folder_is_restored_and_a_rerun_does_nothing(weights, tmp_path, capsys):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for name in ("a.mp4", "a.avi", "trip/b.mkv"):
        encoder = "mpeg4" if name.endswith(".avi") else "libx264"
        with av.open(str(tmp_path / "in" / name), "w") as output:
            stream = output.add_stream(encoder, rate=25)
            stream.height, stream.width = 48, 64
            for image in blocks(2):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))
    (tmp_path / "in" / "corrupt.mov").write_bytes(b"no video")
    (tmp_path / "in" / "notes.txt").touch()
    output = tmp_path / "in" / "restored"
    assert run(weights, [tmp_path / "in"], output) == 1  # because of corrupt.mov
    printed = capsys.readouterr().err
    assert "corrupt.mov: cannot be read as a video" in printed
    assert "skipped 1 file(s)" in printed
    results = [output / name for name in ("a.mp4", "a.avi.mp4", "trip/b.mkv")]
    times = [path.stat().st_mtime_ns for path in results]
    (tmp_path / "in" / "corrupt.mov").unlink()
    assert run(weights, [tmp_path / "in"], output) == 0
    assert "3 of 3 videos are done already" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in results] == times
    # Other settings overwrite results only if requested.
    assert "other settings" in run(weights, [tmp_path / "in"], output, "--quality=20")
    assert run(weights, [tmp_path / "in"], output, "--quality=20", "--overwrite") == 0
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert files == {"a.mp4", "a.avi.mp4", "trip/b.mkv", "restored.jsonl"}


def plan(names, output):
    return {(job.source.name, job.target.name) for job in plan_videos([str(name) for name in names], output).jobs}


def test_inputs_are_files_folders_and_patterns(tmp_path):
    for name in ("a.mp4", "b.MOV", "c.webm", "d.mts", "d.avi", ".hidden.mp4"):
        (tmp_path / name).touch()
    out = tmp_path / "out"
    assert plan([tmp_path / "*.mp4", tmp_path / "b.MOV"], out) == {("a.mp4", "a.mp4"), ("b.MOV", "b.MOV")}
    assert plan([tmp_path / "a.mp4"], tmp_path / "x.webm") == {("a.mp4", "x.webm")}
    assert plan([tmp_path / "[ab].*"], out) == {("a.mp4", "a.mp4"), ("b.MOV", "b.MOV")}
    folder = plan([tmp_path], out)
    assert {source for source, _ in folder} == {"a.mp4", "b.MOV", "c.webm", "d.mts", "d.avi"}
    assert {target for _, target in folder} == {"a.mp4", "b.MOV", "c.webm", "d.mp4", "d.mts.mp4"}


@pytest.mark.parametrize(
    ("names", "output", "code"),
    [
        (["a.mp4"], "out.avi", "video-output"),
        (["a.mp4"], "a.mp4", "video-output"),
        (["a.mp4"], "none/out.mp4", "video-output"),
        (["a.mp4", "b.mp4"], "out.mp4", "video-output"),
        (["folder"], "out.mp4", "video-output"),
        (["folder"], "folder", "video-output"),
        (["folder"], "a.mp4", "video-output"),
        (["folder"], "out", "video-no-input"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(tmp_path, names, output, code):
    (tmp_path / "folder").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        plan_videos([str(tmp_path / name) for name in names], tmp_path / output)
    assert error.value.code == code


def test_mistakes_are_reported_before_the_network_is_loaded(tmp_path):
    source = write_video(tmp_path / "video.mp4", [grey(9)])
    missing = tmp_path / "missing.safetensors"  # which would be an error too
    for options, message in (
        (["--batch_size=0", "--quality=99"], "--batch_size: 0"),
        (["--tile=33"], "--tile: 33, expected 0 or a multiple of 32"),
    ):
        assert message in run(missing, [source], tmp_path / "out.mp4", *options)
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4: cannot be read as a video" in run(missing, [tmp_path / "text.mp4"], tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.mp4", "video.mp4"]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).touch()
    monkeypatch.setitem(sys.modules, "av", None)
    assert run("none", [tmp_path / "in"], tmp_path / "out") == (
        "error: Reading videos needs PyAV, which is not installed: pip install 'jaxdeblur[video]'."
    )


@pytest.mark.slow
def test_ctrl_c_keeps_finished_segments(weights, tmp_path):
    source = write_video(tmp_path / "video.mp4", blocks(600, 96, 128), sound=False)
    command = [sys.executable, "-m", "jaxdeblur.video", "--weights", str(weights), "--input", str(source)]
    command += ["--output", str(tmp_path / "out.mp4")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    first = progress_folder(tmp_path / "out.mp4") / "000000.safetensors"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    printed = process.communicate()[1]
    assert process.returncode == 130
    assert "Run the same command to resume" in printed
    segments = len(list(first.parent.glob("*.safetensors")))
    rerun = subprocess.run(command, capture_output=True, text=True)
    assert rerun.returncode == 0
    assert f"Resuming after frame {segments * 48}." in rerun.stderr
    assert len(read_video(tmp_path / "out.mp4")[0]) == 600
    assert not first.parent.exists()
