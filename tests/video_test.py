"""The command that restores videos, with a network that runs."""

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
from jaxdeblur.restoration.video.jobs import plan_videos
from jaxdeblur.restoration.video.segments import progress_folder
from jaxdeblur.weights.safetensors import write_weights
from tests.restoration.restorer_test import random_network, smooth_image
from tests.restoration.video.restore_test import blocks, gray, read_clip, write_clip

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    write_weights(path, random_network("unet")[1], {"network": "unet"})
    return path


def run(weights, inputs, output, *more):
    """Run the command; return its exit status."""
    command = ["--weights", str(weights), "--input", *map(str, inputs), "--output", str(output), *more]
    try:
        video.main(command)
    except SystemExit as stop:
        return stop.code
    return 0


def test_frames_are_restored_by_the_network(weights, tmp_path, capsys):
    pictures = [np.roll(smooth_image(48, 64), 8 * i, 1) for i in range(5)]
    source = write_clip(tmp_path / "clip.mp4", pictures)
    assert run(weights, [source], tmp_path / "out.mp4", "--quality=0", "--batch_size=2") == 0
    stored, times, sound = read_clip(source)
    frames, own_times, own_sound = read_clip(tmp_path / "out.mp4")
    expected = Restorer(*random_network("unet"))(stored)
    assert np.abs(expected.astype(int) - stored).max() > 20
    assert np.abs(frames.astype(int) - expected).mean() < 2
    assert (own_times, len(own_sound)) == (times, len(sound))
    assert "5 frames restored" in capsys.readouterr().err
    assert "exists; add --overwrite" in run(weights, [source], tmp_path / "out.mp4")


def test_a_folder_is_restored_and_the_second_time_nothing_is_done(weights, tmp_path, capsys):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for name in ("a.mp4", "a.avi", "trip/b.mkv"):
        encoder = "mpeg4" if name.endswith(".avi") else "libx264"
        with av.open(str(tmp_path / "in" / name), "w") as output:
            stream = output.add_stream(encoder, rate=25)
            stream.height, stream.width = 48, 64
            for picture in blocks(2):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))
    (tmp_path / "in" / "broken.mov").write_bytes(b"no video")
    (tmp_path / "in" / "notes.txt").touch()
    output = tmp_path / "in" / "restored"
    assert run(weights, [tmp_path / "in"], output) == 1  # of the broken one
    words = capsys.readouterr().err
    assert "broken.mov: cannot be read as a video" in words
    assert "skipped 1 file(s)" in words
    results = [output / name for name in ("a.mp4", "a.avi.mp4", "trip/b.mkv")]
    stamps = [path.stat().st_mtime_ns for path in results]
    (tmp_path / "in" / "broken.mov").unlink()
    assert run(weights, [tmp_path / "in"], output) == 0
    assert "3 of 3 videos are restored already" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in results] == stamps
    # Other settings would replace the results, which must be asked for.
    assert "other settings" in run(weights, [tmp_path / "in"], output, "--quality=20")
    assert run(weights, [tmp_path / "in"], output, "--quality=20", "--overwrite") == 0
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert found == {"a.mp4", "a.avi.mp4", "trip/b.mkv", "restored.jsonl"}


def plan(names, output):
    return {(job.source.name, job.target.name) for job in plan_videos([str(name) for name in names], output).jobs}


def test_names_folders_and_patterns_stand_for_videos(tmp_path):
    for name in ("a.mp4", "b.MOV", "c.webm", "d.mts", "d.avi", ".hidden.mp4"):
        (tmp_path / name).touch()
    out = tmp_path / "out"
    assert plan([tmp_path / "*.mp4", tmp_path / "b.MOV"], out) == {("a.mp4", "a.mp4"), ("b.MOV", "b.MOV")}
    assert plan([tmp_path / "a.mp4"], tmp_path / "x.webm") == {("a.mp4", "x.webm")}
    assert plan([tmp_path / "[ab].*"], out) == {("a.mp4", "a.mp4"), ("b.MOV", "b.MOV")}
    whole = plan([tmp_path], out)
    assert {source for source, _ in whole} == {"a.mp4", "b.MOV", "c.webm", "d.mts", "d.avi"}
    assert {target for _, target in whole} == {"a.mp4", "b.MOV", "c.webm", "d.mp4", "d.mts.mp4"}


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
    source = write_clip(tmp_path / "clip.mp4", [gray(9)])
    missing = tmp_path / "missing.safetensors"  # which would be an error too
    for more, words in (
        (["--batch_size=0", "--quality=99"], r"batch_size: 0"),
        (["--tile=33"], "--tile: 33, expected 0 or a multiple of 32"),
    ):
        assert words in run(missing, [source], tmp_path / "out.mp4", *more)
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4: cannot be read as a video" in run(missing, [tmp_path / "text.mp4"], tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "text.mp4"]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).touch()
    monkeypatch.setitem(sys.modules, "av", None)
    assert run("none", [tmp_path / "in"], tmp_path / "out") == (
        "error: Videos need PyAV, which is not installed: pip install '.[video]'."
    )


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_restored(weights, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", blocks(600, 96, 128), sound=False)
    command = [sys.executable, "-m", "jaxdeblur.video", "--weights", str(weights), "--input", str(source)]
    command += ["--output", str(tmp_path / "out.mp4")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    first = progress_folder(tmp_path / "out.mp4") / "000000.safetensors"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    words = process.communicate()[1]
    assert process.returncode == 130
    assert "The same command resumes" in words
    kept = len(list(first.parent.glob("*.safetensors")))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert f"Resuming after frame {kept * 48}." in result.stderr
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 600
    assert not first.parent.exists()
