"""Made blur: GOPRO's averaging, and a camera that stands still or moves by known pixels."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data import synthetic
from jaxdeblur.data.folders import read_image

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (60, 80, 3), np.uint8))


def test_average_is_the_rounded_mean():
    frames = np.array([0, 1, 1, 255], np.uint8).reshape(4, 1, 1, 1)
    assert synthetic.average_frames(frames)[0, 0, 0] == 64  # 64.25
    assert synthetic.average_frames(frames[1:])[0, 0, 0] == 86  # 85.67: rounded, not cut


def test_average_of_real_frames_is_gopros_blur(real_gopro):
    """Eleven raw frames beside the data give the published blurred frame within one level."""
    raw = Path(os.environ.get("JAXDEBLUR_GOPRO_RAW", real_gopro.parent / "gopro_raw_240fps")) / "GOPR0477_11_00"
    if not raw.is_dir():
        pytest.skip(f"{raw} holds no raw frames")
    frames = np.stack([read_image(path) for path in sorted(raw.glob("*.png"))])
    published = read_image(real_gopro / "train" / "GOPR0477_11_00" / "blur" / "000001.png")
    difference = synthetic.average_frames(frames).astype(int) - published
    assert len(frames) == 11
    assert np.abs(difference).max() <= 1


def test_a_camera_that_stands_still_sees_the_photograph():
    frames = synthetic.simulate_frames(PHOTO, (10, 20, 30), np.zeros((3, 3)))
    for frame in frames:
        np.testing.assert_array_equal(frame, np.asarray(PHOTO)[20:50, 10:40])


def test_a_shift_moves_the_view():
    frames = synthetic.simulate_frames(PHOTO, (10, 20, 30), np.array([[3.0, -2.0, 0.0]]))
    np.testing.assert_array_equal(frames[0], np.asarray(PHOTO)[18:48, 13:43])


def test_a_rotation_turns_about_the_photographs_middle():
    """Half a turn shows the photograph upside down: the window's mirror image through the middle."""
    frames = synthetic.simulate_frames(PHOTO, (10, 20, 30), np.array([[0.0, 0.0, np.pi]]))
    turned = np.asarray(PHOTO)[::-1, ::-1]
    np.testing.assert_allclose(frames[0].astype(int), turned[20:50, 10:40].astype(int), atol=1)


def test_paths_have_the_length_asked_for_and_rest_in_the_middle():
    shake = synthetic.Shake(time_samples=31, travel=(5.0, 9.0), turn=2.0)
    lengths, turns = [], []
    for seed in range(200):
        path = synthetic.sample_trajectory(np.random.default_rng(seed), shake)
        assert path.shape == (31, 3)
        np.testing.assert_array_equal(path[15], 0)
        lengths.append(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1).sum())
        turns.append(np.degrees(path[-1, 2] - path[0, 2]))
    assert min(lengths) >= 5 - 1e-9
    assert max(lengths) <= 9 + 1e-9
    assert np.ptp(lengths) > 3
    assert np.std(turns) == pytest.approx(2.0, rel=0.2)


def test_sharp_is_a_window_of_the_photograph_and_blur_is_not():
    shake = synthetic.Shake(time_samples=9, travel=(4.0, 4.0), turn=0.0)
    blur, sharp = synthetic.make_pair(PHOTO, 32, shake, np.random.default_rng(3))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(PHOTO), (32, 32, 3))
    assert (windows == sharp).all(axis=(-3, -2, -1)).any()
    assert np.abs(blur.astype(int) - sharp).mean() > 10


def test_pairs_repeat_by_seed():
    shake = synthetic.Shake(time_samples=5, travel=(2.0, 4.0))
    first, again, other = (synthetic.make_pair(PHOTO, 32, shake, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any()


def test_the_window_never_leaves_the_photograph():
    """White photographs stay white: nothing of the black beyond their edge is seen."""
    white = Image.new("RGB", (80, 70), "white")
    for seed in range(50):
        blur, _ = synthetic.make_pair(white, 40, synthetic.Shake(7, (2.0, 8.0), 1.0), np.random.default_rng(seed))
        assert blur.min() == 255


def test_photographs_too_small_are_refused():
    with pytest.raises(ValueError, match="photograph of 80x60 is too small for a window of 64"):
        synthetic.make_pair(PHOTO, 64, synthetic.Shake(), np.random.default_rng(0))
