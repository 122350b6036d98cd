"""The command that restores videos, with a network that runs."""

import numpy as np
import pytest
from clips_test import gray, read_clip, write_clip
from restoration_test import random_network, smooth_image

from jaxdeblur import video
from jaxdeblur.restoration import Restorer
from jaxdeblur.weights import write_weights

av = pytest.importorskip("av", reason="needs PyAV: pip install '.[video]'")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    write_weights(path, random_network("unet")[1], {"network": "unet"})
    return path


def test_frames_are_restored_by_the_network(weights, tmp_path, capsys):
    pictures = [np.roll(smooth_image(48, 64), 8 * i, 1) for i in range(5)]
    source = write_clip(tmp_path / "clip.mp4", pictures)
    command = ["--weights", str(weights), "--input", str(source), "--output", str(tmp_path / "out.mp4"), "--quality=0"]
    video.main([*command, "--batch_size=2"])
    stored, times, sound = read_clip(source)
    frames, own_times, own_sound = read_clip(tmp_path / "out.mp4")
    expected = Restorer(*random_network("unet"), placed=False)(stored)
    assert np.abs(expected.astype(int) - stored).max() > 20
    assert np.abs(frames.astype(int) - expected).mean() < 3  # the result's colours have half the resolution
    assert (own_times, len(own_sound)) == (times, len(sound))
    assert "5 frames restored" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is there already; --overwrite replaces it"):
        video.main(command)


def test_mistakes_are_told_at_once(weights, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", [gray(9)])
    command = ["--weights", str(weights), "--input", str(source)]
    for more, words in (
        (["--output", str(tmp_path / "out.avi"), "--batch_size=0"], r"(?s)batch_size: 0, expected.*ends in '.avi'"),
        (["--output", str(source), "--overwrite"], "is the input"),
        (["--output", str(tmp_path / "none" / "out.mp4")], "is no folder"),
        (["--output", str(tmp_path / "out.mp4"), "--tile=33"], "--tile: 33, expected 0 or a multiple of 32"),
    ):
        with pytest.raises(SystemExit, match=words):
            video.main([*command, *more])
    with pytest.raises(SystemExit, match="cannot be read as a video"):
        video.main(["--weights", str(weights), "--input", str(weights), "--output", str(tmp_path / "out.mp4")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]
