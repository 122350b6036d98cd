"""Warping and averaging: hand-computed blur, moving regions, safe windows."""

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import warping
from jaxdeblur.synthesis.camera_shake import Shake, project, sample_trajectory
from jaxdeblur.synthesis.moving_patches import Region

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (60, 80, 3), np.uint8)
STILL = np.eye(3)[np.newaxis]


def shifts(*steps):
    """Return cameras that shift by (x, y) pixels."""
    cameras = np.tile(np.eye(3), (len(steps), 1, 1))
    cameras[:, :2, 2] = steps
    return cameras


def integrate(window, cameras, regions=(), photo=PHOTO):
    return warping.integrate(photo, window, cameras, regions, np.float32)


def test_still_camera_sees_the_photo():
    np.testing.assert_array_equal(integrate((10, 20, 30, 25), np.repeat(STILL, 3, axis=0)), PHOTO[20:45, 10:40])


def test_shift_by_whole_pixels_is_a_box_blur():
    """Five instants along a row: each pixel is the mean of itself and two neighbours on either side."""
    blurred = integrate((10, 20, 30, 25), shifts(*((step, 0) for step in range(-2, 3))))
    expected = np.mean([PHOTO[20:45, 10 + step : 40 + step].astype(float) for step in range(-2, 3)], axis=0)
    np.testing.assert_allclose(blurred, expected, atol=1e-3)


def test_shift_by_half_a_pixel_averages_neighbours():
    actual = integrate((10, 20, 30, 25), shifts((0.5, 0)))
    np.testing.assert_allclose(actual, PHOTO[20:45, 10:40] / 2 + PHOTO[20:45, 11:41] / 2)


def test_fine_positions_are_not_rounded():
    """A hundredth of a pixel moves by a hundredth of the difference to the neighbour."""
    actual = integrate((10, 20, 30, 25), shifts((0, 0.01)))
    np.testing.assert_allclose(actual, 0.99 * PHOTO[20:45, 10:40] + 0.01 * PHOTO[21:46, 10:40], atol=0.02)


def test_views_match_pillow():
    """An independent resampling of the same homography; Pillow's origin is the pixel's corner, and it rounds."""
    camera = np.array([[0.99, 0.05, 1.3], [-0.04, 1.01, 3.2], [1e-4, -2e-4, 1.0]])
    corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    pillow = corner @ camera @ np.linalg.inv(corner)
    smooth = Image.fromarray(PHOTO[:10, :12]).resize((80, 60), Image.Resampling.BICUBIC)
    expected = smooth.transform((80, 60), Image.Transform.PERSPECTIVE, (pillow / pillow[2, 2]).ravel()[:8], 2)
    actual = integrate((20, 15, 40, 30), camera[np.newaxis], photo=np.asarray(smooth))
    np.testing.assert_allclose(actual, np.asarray(expected, float)[15:45, 20:60], atol=1.1)


def test_tiles_make_up_the_image():
    cameras = project(sample_trajectory(np.random.default_rng(0), Shake(5, (3, 3)), 80.0), 80.0, (60, 80))
    whole = integrate((10, 10, 60, 40), cameras)
    tiles = [[integrate((x, y, 30, 20), cameras) for x in (10, 40)] for y in (10, 30)]
    joined = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    np.testing.assert_allclose(joined, whole, atol=1e-2)


def square(path):
    """A region of 12 x 10 pixels at x 20, y 30, inside a margin of 2, with a binary mask."""
    mask = np.zeros((14, 16), np.float32)
    mask[2:-2, 2:-2] = 1
    return Region(18, 28, mask, np.array(path, float))


def test_only_the_region_moves():
    moved = integrate((0, 0, 80, 60), STILL, [square([(5, -3)])])
    expected = PHOTO.copy()
    expected[27:37, 25:37] = PHOTO[30:40, 20:32]
    np.testing.assert_allclose(moved, expected, atol=0.01)


def test_resting_region_is_invisible():
    region = square([(0, 0)])
    soft = Region(18, 28, cv2.GaussianBlur(region.mask, (5, 5), 1), region.path)
    np.testing.assert_allclose(integrate((0, 0, 80, 60), STILL, [soft]), PHOTO, atol=0.01)


def test_regions_move_in_addition_to_the_camera():
    """The camera moves 4 pixels right, so everything appears 4 further left, the region 4 - 6."""
    moved = integrate((10, 10, 60, 40), shifts((4, 0)), [square([(6, 0)])])
    expected = PHOTO.copy()
    expected[30:40, 26:38] = PHOTO[30:40, 20:32]
    np.testing.assert_allclose(moved, expected[10:50, 14:74], atol=0.01)


def test_later_regions_are_in_front():
    first, second = square([(5, 0)]), Region(38, 28, square([(0, 0)]).mask, np.array([(-8.0, 0)]))
    moved = integrate((0, 0, 80, 60), STILL, [first, second])
    np.testing.assert_allclose(moved[30:40, 32:44], PHOTO[30:40, 40:52], atol=0.01)
    np.testing.assert_allclose(moved[30:40, 25:32], PHOTO[30:40, 20:27], atol=0.01)


def test_regions_outside_the_window_have_no_effect():
    np.testing.assert_array_equal(integrate((60, 0, 20, 20), STILL, [square([(1, 0)])]), PHOTO[:20, 60:])


@pytest.mark.parametrize("size", [(70, 80), (300, 40)])
def test_safe_windows_see_no_black(size):
    """White photos stay white, under much stronger shake than usual."""
    white = np.full((*size, 3), 255, np.uint8)
    shake = Shake(9, (2.0, 9.0), roll=2.0, zoom=0.02)
    for seed in range(60):
        cameras = project(sample_trajectory(np.random.default_rng(seed), shake, 100.0), 100.0, size)
        window = warping.safe_window(size, cameras)
        assert integrate(window, cameras, photo=white).min() > 254.5
        left, top, width, height = window
        assert (2 * left + width, 2 * top + height) == size[::-1]


def test_safe_windows_are_no_smaller_than_needed():
    assert warping.safe_window((60, 80), shifts((3, 0), (0, 0), (-1, 2))) == (3, 2, 74, 56)
    assert warping.safe_window((60, 80), shifts((2.2, 0))) == (3, 0, 74, 60)
    assert warping.safe_window((60, 80), STILL) == (0, 0, 80, 60)


def test_photos_too_small_for_the_motion_are_refused():
    with pytest.raises(InputError, match="80x60 pixels, too small for the camera's motion"):
        warping.safe_window((60, 80), shifts((0, 31)))
    # Turned by 86 degrees, a very wide lens has its corners in front of and behind the scene's plane, inside its edges.
    away = project(np.array([[0, 1.5, 0, 0, 0, 0]]), 8.0, (60, 80))
    with pytest.raises(InputError, match="too small for the camera's motion"):
        warping.safe_window((60, 80), away)


def test_largest_step_adds_camera_and_region():
    cameras = shifts((0, 0), (3, 4), (3, 5))
    assert warping.largest_step(cameras, (0, 0, 9, 9), []) == pytest.approx(5)
    assert warping.largest_step(cameras, (0, 0, 9, 9), [square([(0, 0), (0, 2), (0, 2)])]) == pytest.approx(7)
